"""What rclpy's lifecycle nodes lack: words for what a transition raises, and answers to all."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, State


def told(transition: Callable[..., Any]) -> Callable[..., Any]:
    """Log what a transition raises, and set ``trouble``: rclpy itself throws it away."""

    @functools.wraps(transition)
    def run(node: Any, state: State) -> Any:
        try:
            return transition(node, state)
        except Exception:
            node.get_logger().error(f"{transition.__name__} failed:\n{traceback.format_exc()}")
            node.trouble = f"{transition.__name__} failed, see the log"
            raise

    return run


def answer_every_request(node: LifecycleNode) -> None:
    """Refuse transitions that the state does not allow; rclpy (Humble, Jazzy) dies of them."""
    for service in node.services:
        if service.srv_name.endswith("/change_state"):
            service.callback = _refusing(node, service.callback)


def _refusing(node: LifecycleNode, callback: Callable[..., Any]) -> Callable[..., Any]:
    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except RuntimeError as error:  # RCLError
            node.get_logger().warning(f"transition refused: {error}")
            response.success = False
            return response

    return answer
