"""Writes a short H.264 clip, run with the system's Python: `h264_clip.py FILE`. Each image begins with a
delimiter."""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402


def main() -> None:
    Gst.init(None)
    pipeline = Gst.parse_launch(
        "videotestsrc num-buffers=40 pattern=ball ! "
        "video/x-raw,format=I420,width=320,height=240,framerate=10/1 ! "
        "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 aud=true ! "
        f"video/x-h264,stream-format=byte-stream ! filesink location={sys.argv[1]}"
    )
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(20 * Gst.SECOND, kinds)
    pipeline.set_state(Gst.State.NULL)
    if message is None or message.type == Gst.MessageType.ERROR:
        raise SystemExit("no clip: is gstreamer1.0-plugins-ugly installed?")


if __name__ == "__main__":
    main()
