"""The one way an image enters the network and leaves as a picture."""
