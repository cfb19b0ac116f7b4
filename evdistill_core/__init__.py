"""EvDistill for live event cameras: the library, without ROS.

Layers, top to bottom; imports only go down (``make check`` proves it)::

    cli -> training, export -> data, simulation -> losses -> evaluation -> perception
        -> inference -> models -> representations -> recordings -> events -> messages -> foundation
"""

__version__ = "0.1.0"
