"""Line Monitor: visual inspection of parts on a production line, with one verdict for each part."""
