"""The local accounts: who may sign in, with which role, and what each role may do."""
