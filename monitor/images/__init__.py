"""The one way from an image to the network's input, and from an anomaly map to a picture."""
