"""The record of changes: who changed what and when, as a chain in which a later alteration can be found."""
