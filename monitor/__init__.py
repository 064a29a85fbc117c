"""Line Monitor: from a frame of a part to one verdict, in time."""
