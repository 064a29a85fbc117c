"""A trained recipe: its document, its weights and its versions on disk."""
