"""Random scenes from labelled images: what moves, how, in which light."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.config import LATER
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import IGNORE, OTHER, ClassTable
from evdistill_core.foundation.ranges import check_intervals, check_ranges
from evdistill_core.simulation import people
from evdistill_core.simulation.images import LabelledImage, Thing, cut_things, number_things
from evdistill_core.simulation.motion import (
    STILL,
    Matrix,
    Motion,
    calm,
    log_uniform,
    random_camera_motion,
    random_thing_motion,
    random_turning_motion,
    shift,
)
from evdistill_core.simulation.scene import Brightness, Gait, Layer, Light, Scene
from evdistill_core.simulation.sensor import SensorModel

FloatImage = npt.NDArray[np.float32]
Range = tuple[float, float]

PROBABILITIES = (
    "moving_camera", "moving_things", "near_person", "drawn_people", "light_probability",
    "brightness_probability", "flicker_probability", "group", "overlap", "crossing", "partly_out",
    "turning", "cutouts", "lamps",
)  # fmt: skip
SIZES_PX = ("vehicle_length_px", "person_height_px", "head_px", "distractor_px", "blur_px")
SPEEDS_PX_S = ("camera_speed_px_s", "vehicle_speed_px_s", "person_speed_px_s")
WALKER_WIDTH = 0.4  # of a drawn person's height, arms and legs in motion


@dataclass(frozen=True, kw_only=True)
class SceneRanges:
    """What random scenes are made of. Ranges are (low, high); probabilities lie in 0 .. 1.

    Attributes:
        moving_camera: probability that the camera moves.
        moving_things: probability that things move in front of a moving camera. In front of a
            fixed one they always may; a few fixed scenes stay empty and show noise alone.
        vehicles: least and most moving vehicles.
        people: least and most moving people.
        distractors: least and most moving patches that are neither.
        near_person: probability of one large person, filling much of the frame.
        camera_speed_px_s: at the border of the image; log-uniform, as all speeds and sizes.
        vehicle_speed_px_s: speed of vehicles.
        vehicle_length_px: longer side of a vehicle in the image.
        vehicle_stretch: width over height of a cut-out, times this; log-uniform. Road scenes show
            most vehicles from behind; a camera beside or above the road sees them longer.
        vehicle_tilt_rad: standard deviation of the slope of the road in the image; a vehicle is
            turned by it and moves along it.
        person_speed_px_s: speed of people.
        person_height_px: height of a walking person.
        head_px: height of the head of a near person.
        distractor_px: size of a distractor.
        drawn_people: part of the walking people that are drawn figures, not cut out of images.
        zoom: part of the largest possible view of the background that is shown.
        blur_px: blur of the lens, standard deviation.
        light_probability: probability of moving spots of light or shadow.
        brightness_probability: probability that the light changes everywhere.
        flicker_probability: probability of mains flicker.
        still_things: with a fixed camera, keep the labels of countable things that stand still in
            the background. False: they are ignored, for they send no events to know them by.
        group: probability that a walking person comes in a group that walks one way.
        group_size: least and most people of a group.
        overlap: probability that a moving thing is drawn partly over or behind one that is there.
        crossing: probability that a moving thing meets one that is there and moves the other way.
        partly_out: probability that a moving thing is cut by the border of the image. These
            three are asked in this order, and one of them happens at most.
        turning: probability that a distractor does not travel: it turns, shakes or both, as a
            wheel, a lamp or a thing in a hand does.
        cutouts: part of the distractors that are cut out of the images: aeroplanes, chairs, dogs.
            The label files must mark such things of no class, as COCO's do.
        lamps: probability of one to three bright lamps with a halo, which shake, drift or pass.
            They are no things.
    """

    moving_camera: float = 0.4
    moving_things: float = 0.5
    vehicles: tuple[int, int] = (0, 5)
    people: tuple[int, int] = (0, 4)
    distractors: tuple[int, int] = (0, 4)
    near_person: float = 0.2
    camera_speed_px_s: Range = (8.0, 500.0)
    vehicle_speed_px_s: Range = (10.0, 500.0)
    vehicle_length_px: Range = (14.0, 220.0)
    vehicle_stretch: Range = (1.0, 1.6)
    vehicle_tilt_rad: float = 0.15
    person_speed_px_s: Range = (5.0, 200.0)
    person_height_px: Range = (24.0, 420.0)
    head_px: Range = (50.0, 190.0)
    distractor_px: Range = (8.0, 140.0)
    drawn_people: float = 0.5
    zoom: Range = (0.4, 1.0)
    blur_px: Range = (0.3, 1.0)
    light_probability: float = 0.15
    brightness_probability: float = 0.1
    flicker_probability: float = 0.03
    still_things: bool = True
    group: float = field(default=0.0, metadata=LATER)
    group_size: tuple[int, int] = field(default=(2, 5), metadata=LATER)
    overlap: float = field(default=0.0, metadata=LATER)
    crossing: float = field(default=0.0, metadata=LATER)
    partly_out: float = field(default=0.0, metadata=LATER)
    turning: float = field(default=0.0, metadata=LATER)
    cutouts: float = field(default=0.0, metadata=LATER)
    lamps: float = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse backward ranges and impossible probabilities."""
        check_ranges(self, **dict.fromkeys(PROBABILITIES, (0, 1)), vehicle_tilt_rad=(0, 1))
        check_intervals(
            self,
            **dict.fromkeys(("vehicles", "people", "distractors"), (0, 1000)),
            **dict.fromkeys(SIZES_PX, (1e-6, 1e5)),
            **dict.fromkeys(SPEEDS_PX_S, (1e-6, 1e6)),
            vehicle_stretch=(1e-6, 100),
            zoom=(1e-6, 1),
            group_size=(2, 1000),
        )


@dataclass(frozen=True)
class _Mover:
    """One moving thing, or a patch that is none, before it has its place among the others.

    Attributes:
        layers: from back to front; all have one motion and one origin.
        height: rows that it takes about.
        width: columns that it takes about.
        is_thing: whether it is a vehicle or a person.
    """

    layers: list[Layer]
    height: float
    width: float
    is_thing: bool = True

    @property
    def feet(self) -> float:
        """Row of its lower end: what stands lower is nearer and drawn later."""
        return self.layers[0].origin[1] + self.height / 2

    @property
    def motion(self) -> Motion:
        return self.layers[0].motion

    @property
    def origin(self) -> tuple[float, float]:
        return self.layers[0].origin

    def moved(self, origin: tuple[float, float], motion: Motion | None = None) -> _Mover:
        """Return it at another place, with another motion if one is given."""
        motion = motion or self.motion
        layers = [dataclasses.replace(x, origin=origin, motion=motion) for x in self.layers]
        return dataclasses.replace(self, layers=layers)


class SceneFactory:
    """Makes random scenes.

    Args:
        images: backgrounds, and the source of things and distractors; at least one.
        classes: says which classes are things; the names "vehicle", "human" and "object" get
            their roles by name (a class "car" or "person" is taken where those are missing).
        height: rows of the camera.
        width: columns of the camera.
        ranges: what scenes are made of.
        span_s: length of what is simulated in one go, where it is a video: motions are then steady
            enough to be watched that long, and things pass at different times. 0: one window.

    Raises:
        DataError: there is no image.
    """

    def __init__(  # noqa: PLR0913 - numbers by name
        self,
        images: Sequence[LabelledImage],
        classes: ClassTable,
        *,
        height: int,
        width: int,
        ranges: SceneRanges | None = None,
        span_s: float = 0.0,
    ) -> None:
        if not images:
            raise DataError("a scene needs at least one labelled image")
        self.height = height
        self.width = width
        self.ranges = ranges or SceneRanges()
        self._span_s = span_s
        self._images = tuple(images)
        self._human = _class_id(classes, ("human", "person", "pedestrian"))
        self._vehicle = _class_id(classes, ("vehicle", "car"))
        self._object = _class_id(classes, ("object",))
        self._nature = _class_id(classes, ("nature", "vegetation", "tree"))
        self._thing_ids = classes.thing_ids
        # Pieces with these on them are never pasted as something that is no thing.
        self._not_distractors = {i for i in (self._human, self._vehicle) if i is not None} | set(
            classes.thing_ids
        )
        wanted = (*classes.thing_ids, OTHER) if self.ranges.cutouts else classes.thing_ids
        things = [t for image in images for t in cut_things(image, wanted)]
        self._people = [t for t in things if t.label == self._human]
        self._others = [t for t in things if t.label == OTHER]
        # Every countable class that is not human moves as vehicles do.
        self._vehicles = [t for t in things if t.label not in (self._human, OTHER)]
        if self.ranges.cutouts and not self._others:
            raise DataError(
                f"cutouts {self.ranges.cutouts:g} asks for things of no class, and the label files "
                f"of these {len(images)} images mark none that is large enough: use images whose "
                "polygons have other classes too (COCO), or cutouts 0"
            )

    @property
    def num_things(self) -> dict[str, int]:
        """How many cut-outs the images gave."""
        counts = {"vehicles": len(self._vehicles), "people": len(self._people)}
        return counts | ({"others": len(self._others)} if self._others else {})

    def make(self, sensor: SensorModel, rng: np.random.Generator) -> Scene:
        """Return a random scene as this sensor would see it; drawn from ``rng`` alone."""
        r = self.ranges
        response = sensor.response()
        camera_moves = rng.random() < r.moving_camera
        size_px = math.hypot(self.height, self.width) / 2
        camera = random_camera_motion(rng, r.camera_speed_px_s, size_px) if camera_moves else STILL
        if camera_moves and self._span_s:
            camera = calm(camera, self._span_s, size_px, farthest_px=0.3 * size_px)
        background, labels, objects, place = self._background(response, rng)
        if not camera_moves and not r.still_things:
            labels = np.where(np.isin(labels, self._thing_ids), np.uint8(IGNORE), labels)
            objects = np.zeros_like(objects)
        layers: list[Layer] = []
        if not camera_moves or rng.random() < r.moving_things:
            layers = self._layers(response, rng, int(objects.max(initial=0)))
        return Scene(
            background,
            labels,
            place,
            height=self.height,
            width=self.width,
            camera=camera,
            layers=layers,
            lights=self._lights(rng),
            brightness=self._brightness(rng),
            objects=objects,
        )

    def _background(
        self, response: FloatImage, rng: np.random.Generator
    ) -> tuple[FloatImage, npt.NDArray[np.uint8], npt.NDArray[np.uint16], Matrix]:
        image = self._images[rng.integers(len(self._images))]
        code, labels = image.code, image.labels
        objects = number_things(image.labels, image.objects, self._thing_ids)
        if rng.random() < 0.5:
            code, labels, objects = code[:, ::-1], labels[:, ::-1], objects[:, ::-1]
        rows, columns = code.shape
        # Source pixels per scene pixel: at most what makes the whole image fit.
        per_pixel = min(rows / self.height, columns / self.width) * log_uniform(
            rng, self.ranges.zoom
        )
        if per_pixel > 1.0:
            size = (max(1, round(columns / per_pixel)), max(1, round(rows / per_pixel)))
            code = np.asarray(cv2.resize(code, size, interpolation=cv2.INTER_AREA), np.uint16)
            labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
            objects = np.asarray(
                cv2.resize(objects, size, interpolation=cv2.INTER_NEAREST), np.uint16
            )
            per_pixel = 1.0
        log = _blurred(response[code], log_uniform(rng, self.ranges.blur_px) * per_pixel)
        free = np.maximum(
            (
                code.shape[1] - 1 - per_pixel * (self.width - 1),
                code.shape[0] - 1 - per_pixel * (self.height - 1),
            ),
            0.0,
        )
        column, row = rng.random(2) * free
        place = shift(column, row) @ np.diag((per_pixel, per_pixel, 1.0))
        return log, np.ascontiguousarray(labels), np.ascontiguousarray(objects), place

    def _layers(self, response: FloatImage, rng: np.random.Generator, last: int) -> list[Layer]:
        """Return all layers; the numbers of their things go on after ``last``."""
        r = self.ranges
        crowd = rng.random()
        movers: list[_Mover] = []
        for _ in range(_few(rng, r.distractors, crowd)):
            movers.append(self._distractor(response, rng))
        if self._vehicles:
            for _ in range(_few(rng, r.vehicles, crowd)):
                movers.append(self._arranged(self._vehicle_mover(response, rng), movers, rng))
        if self._human is not None:
            for _ in range(_few(rng, r.people, crowd)):
                leader = self._arranged(self._person(response, rng), movers, rng)
                movers.append(leader)
                if r.group and rng.random() < r.group:
                    movers += self._followers(leader, response, rng)
        movers.sort(key=lambda mover: mover.feet)
        groups = [mover.layers for mover in movers]
        if self._human is not None and rng.random() < r.near_person:
            groups.append(self._near_person(rng))
        layers = []
        for group in groups:
            is_thing = any(layer.label in self._thing_ids for layer in group)
            last += is_thing
            for layer in group:
                own = is_thing and layer.label in self._thing_ids
                layers.append(dataclasses.replace(layer, thing=last) if own else layer)
        return layers

    def _arranged(
        self, mover: _Mover, others: Sequence[_Mover], rng: np.random.Generator
    ) -> _Mover:
        """Return a thing where it overlaps or meets another, or where the border cuts it."""
        r = self.ranges
        there = [other for other in others if other.is_thing]
        # Nothing is drawn for what has no probability: scenes of older settings stay the same.
        if r.overlap and rng.random() < r.overlap:
            return self._over(mover, there, rng) if there else mover
        if r.crossing and rng.random() < r.crossing:
            return self._across(mover, there, rng) if there else mover
        if r.partly_out and rng.random() < r.partly_out:
            return self._cut_by_border(mover, rng)
        return mover

    def _over(self, mover: _Mover, there: Sequence[_Mover], rng: np.random.Generator) -> _Mover:
        """Return a thing whose box shares a part with that of another, in the middle of time."""
        other = there[int(rng.integers(len(there)))]
        share = rng.uniform(0.2, 0.8) * rng.choice((-1.0, 1.0))
        column = other.origin[0] + share * (mover.width + other.width) / 2
        lower = rng.normal(0.0, 0.1) * other.height
        return mover.moved((column, other.feet - mover.height / 2 + lower))

    def _across(self, mover: _Mover, there: Sequence[_Mover], rng: np.random.Generator) -> _Mover:
        """Return a thing that comes from the other side and passes another one."""
        other = there[int(rng.integers(len(there)))]
        velocity = mover.motion.velocity.copy()
        velocity[0] = math.copysign(velocity[0], -other.motion.velocity[0])
        acceleration = mover.motion.acceleration.copy()
        acceleration[0] *= 1.0 if velocity[0] == mover.motion.velocity[0] else -1.0
        motion = Motion(velocity, acceleration)
        at_s = rng.uniform(-0.3, 0.3) * self._span_s
        gap = other.motion.offset(at_s)[:2] - motion.offset(at_s)[:2]
        # In one window little moves: it is seen before, while or after they pass.
        ahead = rng.uniform(-0.5, 0.5) * (mover.width + other.width) / 2
        lower = rng.normal(0.0, 0.1) * other.height
        row = other.feet - mover.height / 2 + lower
        return mover.moved((other.origin[0] + float(gap[0]) + ahead, row + float(gap[1])), motion)

    def _cut_by_border(self, mover: _Mover, rng: np.random.Generator) -> _Mover:
        side, share = rng.integers(4), rng.uniform(-0.35, 0.35)
        column, row = mover.origin
        if side < 2:
            column = side * self.width + share * mover.width
        else:
            row = (side - 2) * self.height + share * mover.height
        return mover.moved((column, row))

    def _followers(
        self, leader: _Mover, response: FloatImage, rng: np.random.Generator
    ) -> list[_Mover]:
        """Return the others of a group: about as tall, side by side, at nearly one speed."""
        low, high = self.ranges.group_size
        count = int(rng.integers(low, high + 1)) - 1
        # Inwards, where there is room for all.
        way = 1.0 if leader.origin[0] < self.width / 2 else -1.0
        column, row = leader.origin
        found = []
        for _ in range(count):
            height = leader.height * rng.uniform(0.85, 1.15)
            column += way * rng.uniform(0.15, 0.45) * leader.height
            velocity = leader.motion.velocity.copy()
            velocity[:2] *= rng.uniform(0.9, 1.1, 2)
            place = (column, row + leader.height / 2 - height / 2 + rng.normal(0.0, 0.05) * height)
            person = self._person(response, rng, height_px=height)
            found.append(person.moved(place, Motion(velocity, leader.motion.acceleration)))
        return found

    def _placed(self, motion: Motion, rng: np.random.Generator) -> tuple[float, float]:
        """Return where a thing is in the middle of time, so that it is in view at some time."""
        return self._passing(self._somewhere(rng), motion, rng)

    def _passing(
        self, place: tuple[float, float], motion: Motion, rng: np.random.Generator
    ) -> tuple[float, float]:
        if not self._span_s:
            return place
        offset = motion.offset(rng.uniform(-0.5, 0.5) * self._span_s)
        return place[0] - float(offset[0]), place[1] - float(offset[1])

    def _motion(
        self,
        rng: np.random.Generator,
        speed_px_s: Range,
        *,
        level: float,
        size_px: float,
        slope: float = 0.0,
    ) -> Motion:
        motion = random_thing_motion(rng, speed_px_s, level=level, size_px=size_px, slope=slope)
        return calm(motion, self._span_s, size_px) if self._span_s else motion

    def _vehicle_mover(self, response: FloatImage, rng: np.random.Generator) -> _Mover:
        r = self.ranges
        thing = self._vehicles[rng.integers(len(self._vehicles))]
        length = log_uniform(rng, r.vehicle_length_px)
        stretch = log_uniform(rng, r.vehicle_stretch)
        rows, columns = thing.mask.shape
        scale = length / max(rows, columns * stretch)
        log, alpha = _cut(thing, scale, response, rng, r, stretch=stretch)
        slope = float(np.clip(rng.normal(0.0, r.vehicle_tilt_rad), -0.6, 0.6))
        log, alpha = _turned(log, alpha, slope)
        motion = self._motion(rng, r.vehicle_speed_px_s, level=0.1, size_px=length, slope=slope)
        origin = self._placed(motion, rng)
        layers = []
        if rng.random() < 0.6:
            layers.append(_shadow(log.shape, motion, origin, rng))
        layers.append(_simple_layer(log, alpha, thing.label, motion, origin))
        return _Mover(layers, log.shape[0], log.shape[1])

    def _person(
        self, response: FloatImage, rng: np.random.Generator, *, height_px: float | None = None
    ) -> _Mover:
        r = self.ranges
        assert self._human is not None
        height = height_px or log_uniform(rng, r.person_height_px)
        motion = self._motion(rng, r.person_speed_px_s, level=0.4, size_px=height)
        # Tall people near the camera may show their legs alone, at the upper border.
        place = (self._somewhere(rng)[0], rng.uniform(-0.2, 1.05) * self.height)
        origin = self._passing(place, motion, rng)
        if not self._people or rng.random() < r.drawn_people:
            layers = people.walker(rng, height, motion, origin, self._human)
            return _Mover(layers, height, WALKER_WIDTH * height)
        thing = self._people[rng.integers(len(self._people))]
        log, alpha = _cut(thing, height / thing.mask.shape[0], response, rng, r)
        gait = Gait(
            sway_px=abs(rng.normal(0.0, 0.015)) * height,
            stride_px=abs(rng.normal(0.0, 0.04)) * height,
            hz=rng.uniform(0.6, 2.0),
            phase=rng.uniform(0.0, 2.0 * math.pi),
        )
        layer = _simple_layer(log, alpha, thing.label, motion, origin, gait)
        return _Mover([layer], height, log.shape[1])

    def _near_person(self, rng: np.random.Generator) -> list[Layer]:
        assert self._human is not None
        head = log_uniform(rng, self.ranges.head_px)
        motion = self._motion(rng, self.ranges.person_speed_px_s, level=1.0, size_px=head * 2)
        # The drawn trunk is 3 heads long: it must reach the lower border of the image.
        highest = max(0.25 * self.height, self.height - 2.8 * head)
        row = rng.uniform(min(highest, 0.9 * self.height), 0.95 * self.height)
        origin = (rng.uniform(0.1, 0.9) * self.width, row)
        return people.bust(rng, head, motion, origin, self._human)

    def _distractor(self, response: FloatImage, rng: np.random.Generator) -> _Mover:
        """A moving patch of anything that is no thing: box, leaf, pole, random texture."""
        r = self.ranges
        size = log_uniform(rng, r.distractor_px)
        # Nothing is drawn for what has no probability: scenes of older settings stay the same.
        if r.cutouts and rng.random() < r.cutouts:
            return self._cutout(size, response, rng)
        aspect = (
            log_uniform(rng, (0.08, 1.0)) if rng.random() < 0.4 else log_uniform(rng, (0.5, 2.0))
        )
        height, width = max(3, round(size)), max(3, round(size * aspect))
        if rng.random() < 0.5:
            height, width = width, height
        alpha = _random_outline(height, width, rng)
        label = IGNORE if self._object is None else self._object
        if rng.random() < 0.5:
            log = people.texture(rng, height, width, rng.uniform(0.02, 0.8))
            log += np.float32(rng.uniform(-3.0, -0.2))
        else:
            image = self._images[rng.integers(len(self._images))]
            log, label = self._patch_of(image, height, width, label, response, rng)
        if r.turning and rng.random() < r.turning:
            return self._turning(log, alpha, label, rng)
        motion = self._motion(rng, r.vehicle_speed_px_s, level=1.5, size_px=size)
        origin = self._placed(motion, rng)
        gait = Gait()
        if rng.random() < 0.3:
            sway = abs(rng.normal(0.0, 0.08)) * size
            gait = Gait(sway_px=sway, top_heavy=True, hz=log_uniform(rng, (0.5, 6.0)),
                        phase=rng.uniform(0.0, 6.28), waves=rng.uniform(0.1, 2.0))  # fmt: skip
        layer = _simple_layer(log, alpha, label, motion, origin, gait)
        return _Mover([layer], height, width, is_thing=False)

    def _cutout(self, size: float, response: FloatImage, rng: np.random.Generator) -> _Mover:
        """Return a thing of no class, cut out of an image; half of them lie at any angle."""
        r = self.ranges
        thing = self._others[rng.integers(len(self._others))]
        log, alpha = _cut(thing, size / max(thing.mask.shape), response, rng, r)
        if rng.random() < 0.5:
            log, alpha = _turned(log, alpha, rng.uniform(-math.pi, math.pi))
        if r.turning and rng.random() < r.turning:
            motion, origin = random_turning_motion(rng, size_px=size), self._somewhere(rng)
        else:
            motion = self._motion(rng, r.vehicle_speed_px_s, level=1.5, size_px=size)
            origin = self._placed(motion, rng)
        layer = _simple_layer(log, alpha, thing.label, motion, origin)
        return _Mover([layer], log.shape[0], log.shape[1], is_thing=False)

    def _turning(
        self, log: FloatImage, alpha: FloatImage, label: int, rng: np.random.Generator
    ) -> _Mover:
        """Return a patch that stays about where it is: of one piece, of two, or a lamp."""
        height, width = alpha.shape
        size = max(height, width)
        motion, origin = random_turning_motion(rng, size_px=size), self._somewhere(rng)
        pieces = [(log, alpha)]
        kind = rng.random()
        if kind < 0.4:  # a cross, such as wings and body of an aeroplane
            across = _random_outline(width, height, rng)
            pieces.append((np.ascontiguousarray(log.T), across))
        elif kind < 0.65:
            glow = np.full((size, size), rng.uniform(0.3, 2.5), np.float32)
            pieces = [(glow, _disc(size))]
        layers = [_simple_layer(*piece, label, motion, origin) for piece in pieces]
        return _Mover(layers, size, size, is_thing=False)

    def _patch_of(  # noqa: PLR0913, PLR0917
        self, image: LabelledImage, height: int, width: int, label: int,
        response: FloatImage, rng: np.random.Generator,
    ) -> tuple[FloatImage, int]:  # fmt: skip
        """Return a piece of an image without things in it, and the label it mostly has."""
        rows, columns = image.code.shape
        high, wide = min(height, rows), min(width, columns)
        for _ in range(8):
            top, left = rng.integers(rows - high + 1), rng.integers(columns - wide + 1)
            part = (slice(top, top + high), slice(left, left + wide))
            ids = np.bincount(image.labels[part].ravel(), minlength=256)
            if not ids[list(self._not_distractors)].any():
                common = int(ids.argmax())
                # A moving leaf is still nature; a moving piece of road or wall is some object. What
                # is known to be no thing is no thing in motion either, and may be anything else.
                found = common if common in (self._nature, IGNORE, OTHER) else label
                code = cv2.resize(image.code[part], (width, height))
                return _blurred(response[code], log_uniform(rng, self.ranges.blur_px)), found
        plain = np.full((height, width), rng.uniform(-3.0, -0.2), np.float32)
        return plain, label

    def _lights(self, rng: np.random.Generator) -> list[Light]:
        lamps: list[Light] = []
        # Nothing is drawn for what has no probability: scenes of older settings stay the same.
        if self.ranges.lamps and rng.random() < self.ranges.lamps:
            lamps = [x for _ in range(rng.integers(1, 4)) for x in self._lamp(rng)]
        if rng.random() >= self.ranges.light_probability:
            return lamps
        lights = []
        for _ in range(rng.integers(1, 4)):
            size = log_uniform(rng, (8.0, 150.0))
            motion = random_thing_motion(rng, (10.0, 400.0), level=1.5, size_px=size)
            radius = (size * rng.uniform(0.3, 1.0), size * rng.uniform(0.3, 1.0))
            lights.append(Light(motion, self._somewhere(rng), radius, rng.normal(0.0, 0.7)))
        return lights + lamps

    def _lamp(self, rng: np.random.Generator) -> list[Light]:
        """Return a lamp: a bright core, and the wide faint halo that lenses make of it."""
        size = log_uniform(rng, (5.0, 45.0))
        if rng.random() < 0.6:
            motion = random_turning_motion(rng, size_px=4.0 * size)
        else:
            motion = self._motion(rng, (5.0, 200.0), level=1.5, size_px=size)
        origin = self._somewhere(rng)
        amount = rng.uniform(1.0, 5.0)
        core = (size, size * log_uniform(rng, (0.6, 1.6)))
        wide = log_uniform(rng, (2.0, 8.0))
        halo = (core[0] * wide, core[1] * wide)
        return [
            Light(motion, origin, core, amount, is_sharp=True),
            Light(motion, origin, halo, amount * log_uniform(rng, (0.03, 0.3))),
        ]

    def _brightness(self, rng: np.random.Generator) -> Brightness:
        r = self.ranges
        drift = rng.normal(0.0, 2.0) if rng.random() < r.brightness_probability else 0.0
        flicker = log_uniform(rng, (0.01, 0.15)) if rng.random() < r.flicker_probability else 0.0
        hz = float(rng.choice((50.0, 60.0, 100.0, 120.0)))
        return Brightness(drift, flicker, hz, rng.uniform(0.0, 2.0 * math.pi))

    def _somewhere(self, rng: np.random.Generator) -> tuple[float, float]:
        column, row = rng.uniform(-0.05, 1.05, 2)
        return float(column * self.width), float(row * self.height)


def _disc(size: int) -> FloatImage:
    """Return the alpha of a disc with a soft edge."""
    rows, columns = (axis - (size - 1) / 2 for axis in np.ogrid[:size, :size])
    away = np.hypot(rows, columns) / (size / 2)
    return np.clip((1 - away) * 4, 0, 1).astype(np.float32)


def _class_id(classes: ClassTable, names: Sequence[str]) -> int | None:
    for name in names:
        if name in classes.names:
            return classes.names.index(name)
    return None


def _few(rng: np.random.Generator, limits: tuple[int, int], crowd: float) -> int:
    """Draw a number from ``limits``; small ones are likelier, and all kinds agree how crowded."""
    low, high = limits
    return low + int(crowd * rng.random() * (high + 1 - low))


def _simple_layer(  # noqa: PLR0913, PLR0917
    log: FloatImage,
    alpha: FloatImage,
    label: int | None,
    motion: Motion,
    origin: tuple[float, float],
    gait: Gait | None = None,
) -> Layer:
    pivot = ((log.shape[1] - 1) / 2, (log.shape[0] - 1) / 2)
    return Layer(log, alpha, label, motion, origin, pivot=pivot, gait=gait or Gait())


def _shadow(
    shape: tuple[int, ...], motion: Motion, origin: tuple[float, float], rng: np.random.Generator
) -> Layer:
    """Return the soft dark patch below a vehicle; it keeps the labels of the ground."""
    height, width = max(3, round(shape[0] * 0.3)), max(3, round(shape[1] * 1.05))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    d = np.hypot(
        (columns - (width - 1) / 2) / (width / 2), (rows - (height - 1) / 2) / (height / 2)
    )
    alpha = np.asarray(np.clip(2.0 - 2.0 * d, 0.0, rng.uniform(0.3, 0.9)), np.float32)
    log = np.full((height, width), rng.uniform(-4.0, -2.5), np.float32)
    pivot = ((width - 1) / 2, (height - 1) / 2 - shape[0] * 0.45)
    return Layer(log, alpha, None, motion, origin, pivot=pivot)


def _cut(  # noqa: PLR0913
    thing: Thing,
    scale: float,
    response: FloatImage,
    rng: np.random.Generator,
    ranges: SceneRanges,
    *,
    stretch: float = 1.0,
) -> tuple[FloatImage, FloatImage]:
    """Return log intensity and transparency of a thing at another size, perhaps mirrored.

    ``scale`` counts for the rows, ``scale * stretch`` for the columns.
    """
    rows, columns = thing.mask.shape
    size = (max(3, round(columns * scale * stretch)), max(3, round(rows * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    code = cv2.resize(thing.code, size, interpolation=way)
    mask = cv2.resize(thing.mask.astype(np.float32), size, interpolation=way)
    log = response[code]
    if scale > 1:
        # Enlarged steps of the mask become a smooth outline about a pixel wide.
        mask = cv2.GaussianBlur(mask, (0, 0), 0.8 * scale)
        mask = np.clip((mask - 0.5) * 2.0 * scale + 0.5, 0.0, 1.0)
        # Enlarged images have no fine structure of their own.
        amount = min(0.3, 0.06 * scale) * rng.random()
        log = log + people.texture(rng, size[1], size[0], amount)
    log = _blurred(log, log_uniform(rng, ranges.blur_px)) + np.float32(rng.normal(0.0, 0.5))
    border = (2, 2, 2, 2)
    log = cv2.copyMakeBorder(log, *border, cv2.BORDER_REPLICATE)
    mask = cv2.copyMakeBorder(mask, *border, cv2.BORDER_CONSTANT, value=0.0)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.5)
    if rng.random() < 0.5:
        log, mask = log[:, ::-1], mask[:, ::-1]
    return np.ascontiguousarray(log, np.float32), np.ascontiguousarray(mask, np.float32)


def _turned(log: FloatImage, alpha: FloatImage, angle: float) -> tuple[FloatImage, FloatImage]:
    """Return a cut-out turned clockwise by ``angle`` radians, on an image that holds all of it."""
    rows, columns = alpha.shape
    c, s = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = math.ceil(columns * c + rows * s), math.ceil(columns * s + rows * c)
    matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), -math.degrees(angle), 1.0)
    matrix[:, 2] += ((width - columns) / 2, (height - rows) / 2)
    size = (width, height)
    turned_log = cv2.warpAffine(log, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    turned_alpha = cv2.warpAffine(alpha, matrix, size, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(turned_log, np.float32), np.asarray(turned_alpha, np.float32)


def _random_outline(height: int, width: int, rng: np.random.Generator) -> FloatImage:
    """Return the cover of a rectangle, an ellipse or a ragged polygon."""
    alpha = np.zeros((height, width), np.uint8)
    kind = rng.random()
    if kind < 0.35:
        alpha[1:-1, 1:-1] = 255
    else:
        count = int(rng.integers(3, 9)) if kind < 0.65 else 24
        angles = np.sort(rng.uniform(0.0, 2.0 * math.pi, count)) if kind < 0.65 else (
            np.linspace(0.0, 2.0 * math.pi, count, endpoint=False)
        )  # fmt: skip
        reach = rng.uniform(0.5, 1.0, count) if kind < 0.65 or kind > 0.85 else np.ones(count)
        points = np.stack(
            [
                (0.5 + 0.48 * reach * np.cos(angles)) * (width - 1),
                (0.5 + 0.48 * reach * np.sin(angles)) * (height - 1),
            ],
            axis=1,
        )
        fixed_point = np.rint(points * 16).astype(np.int32)
        cv2.fillPoly(alpha, [fixed_point], 255, lineType=cv2.LINE_AA, shift=4)
    soft = cv2.GaussianBlur(alpha.astype(np.float32) / 255.0, (0, 0), 0.5)
    return np.asarray(soft, np.float32)


def _blurred(log: FloatImage, sigma_px: float) -> FloatImage:
    return np.asarray(cv2.GaussianBlur(log, (0, 0), sigma_px), np.float32)
