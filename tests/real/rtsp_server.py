"""A real RTSP server for tests, run with the system's Python: `rtsp_server.py --port 8554`.

It serves one live H.264 stream at /live: a test pattern, or a folder of PNG or JPEG images in a loop.
"""

import argparse
import pathlib
import tempfile

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def pattern(options: argparse.Namespace) -> str:
    width, height = options.size.split("x")
    return (
        f"videotestsrc is-live=true pattern={options.pattern} ! "
        f"video/x-raw,width={width},height={height},framerate={options.fps}/1"
    )


def images(folder: str, links: pathlib.Path, fps: int) -> str:
    files = sorted(file for file in pathlib.Path(folder).iterdir() if file.suffix.lower() in DECODERS)
    kinds = {DECODERS[file.suffix.lower()] for file in files}
    if len(kinds) != 1:
        raise SystemExit(f"{folder} must hold images of one kind: {' '.join(DECODERS)}")
    (kind,) = kinds
    for number, file in enumerate(files):
        (links / f"{number:06}").symlink_to(file.resolve())
    return (
        f"multifilesrc location={links}/%06d loop=true caps=image/{kind},framerate={fps}/1 ! {kind}dec ! "
        "identity sync=true"
    )


DECODERS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", default="320x240", help="size of the test pattern")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--pattern", default="ball")
    parser.add_argument("--folder", help="images to play instead of the pattern")
    parser.add_argument("--udp-only", action="store_true")
    parser.add_argument("--user")
    parser.add_argument("--password")
    options = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(options.port))
    factory = GstRtspServer.RTSPMediaFactory()
    with tempfile.TemporaryDirectory() as links:
        source = (
            images(options.folder, pathlib.Path(links), options.fps) if options.folder else pattern(options)
        )
        factory.set_launch(
            f"( {source} ! videoconvert ! video/x-raw,format=I420 ! "
            f"x264enc tune=zerolatency speed-preset=ultrafast pass=quant quantizer=16 "
            f"key-int-max={options.fps} ! "
            "rtph264pay name=pay0 pt=96 config-interval=1 )"
        )
        factory.set_shared(True)
        if options.udp_only:
            factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
        if options.user:
            auth = GstRtspServer.RTSPAuth()
            token = GstRtspServer.RTSPToken()
            token.set_string("media.factory.role", "viewer")
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(options.user, options.password or ""), token)
            server.set_auth(auth)
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_permission_for_role("viewer", "media.factory.access", True)
            permissions.add_permission_for_role("viewer", "media.factory.construct", True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory("/live", factory)
        if not server.attach(None):
            raise SystemExit(f"port {options.port} is taken")
        GLib.MainLoop().run()


if __name__ == "__main__":
    main()
