"""``evdistill view --live TOPIC``: the part that joins the graph."""

from __future__ import annotations


def show(topic: str, *, node: str, address: str, domain: int | None) -> int:
    """Show a topic of the graph on a page; return the exit code. See ``show_topic``."""
    from evdistill_ros.standalone.topic_view import show_topic

    return show_topic(topic, node=node, address=address, domain=domain)
