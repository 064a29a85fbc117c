"""The settings files of the program as package data; the installed package is `monitor.config`.

It holds no code and knows nothing of the settings' meaning.
"""
