"""Camera images that come compressed, on a real ROS 2."""

import signal

import cv2
import numpy as np
import pytest
from ros_graph import node_process, stamps

pytestmark = [pytest.mark.ros, pytest.mark.slow]

GREY = 201


def received_images(graph):
    found = graph.values("/segmentation: results")
    return None if found is None else int(found[2]["damaged_images"])


@pytest.mark.parametrize("name", ["image", "image/compressed"])
def test_the_background_of_the_overlay_may_be_a_jpeg(tiny_student, graph, packets, name):
    from sensor_msgs.msg import CompressedImage

    _, jpeg = cv2.imencode(".jpg", np.full((260, 346), GREY, np.uint8))
    images = graph.node.create_publisher(CompressedImage, f"/segmentation/{name}", 5)
    with node_process(tiny_student) as node:
        assert graph.spin(60, lambda: images.get_subscription_count() > 0)
        images.publish(CompressedImage(format="jpeg", data=[1, 2, 3]))
        assert graph.spin(20, lambda: received_images(graph) == 1)
        whole = CompressedImage(format="mono8; jpeg compressed", data=jpeg.tobytes())
        stamp_ns = packets[0].receive_time_ns - 100_000_000
        whole.header.stamp.sec, whole.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        images.publish(whole)
        graph.send(packets)
        assert received_images(graph) == 1
        assert node.end(signal.SIGINT) == 0
    assert f"images from /segmentation/{name} (sensor_msgs/msg/CompressedImage)" in node.output
    assert stamps(graph.got["overlay"]) == stamps(graph.got["mask"])
    mask, overlay = (
        np.array(image.data, np.uint8).reshape(image.height, image.width, -1)
        for image in (graph.got[name][5] for name in ("mask", "overlay"))
    )
    # The overlay is twice as large and has a legend below.
    background = overlay[: 2 * 260 : 2, ::2][mask[..., 0] == 255]
    assert (np.abs(np.median(background, axis=0) - GREY) <= 3).all()
