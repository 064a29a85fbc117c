"""Teaching of a recipe beside a running line: images are collected, a process of its own trains.

It knows nothing of HTTP: `monitor.review` shows it to people.
"""
