import dataclasses

import numpy as np
import pytest

from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import SIX_CLASSES, ClassInfo, ClassTable
from evdistill_core.simulation.factory import SceneFactory, SceneRanges
from evdistill_core.simulation.images import LabelledImage, cut_things, number_things
from evdistill_core.simulation.motion import STILL, Motion, shift
from evdistill_core.simulation.scene import STEP_PX, Layer, Light, Scene
from evdistill_core.simulation.sensor import SensorModel
from evdistill_core.simulation.window import simulate_window, simulate_windows

HEIGHT, WIDTH = 60, 80
CLEAN = SensorModel(noise_hz=0, mismatch=0.05)


def still_background(level=-2.0):
    log = np.full((HEIGHT, WIDTH), level, np.float32)
    return log, np.zeros((HEIGHT, WIDTH), np.uint8), np.eye(3)


def square_scene(velocity=(200.0, 0.0), size=15):
    motion = Motion(velocity=np.array([*velocity, 0, 0, 0, 0], float))
    log = np.full((size + 4, size + 4), -0.5, np.float32)
    alpha = np.zeros_like(log)
    alpha[2:-2, 2:-2] = 1
    middle = (size + 3) / 2
    layer = Layer(log, alpha, 5, motion, (40.0, 30.0), pivot=(middle, middle))
    return Scene(*still_background(), height=HEIGHT, width=WIDTH, layers=[layer])


def test_events_of_a_moving_square_lie_on_its_border():
    window = simulate_window(square_scene(), CLEAN, 50_000, np.random.default_rng(0))
    events, size = window.events, 15
    assert len(events) > 300
    # 10 px in 50 ms, centre at column 40 in the middle of the window
    centre = 40.0 + 200.0 * (events.t_us - 25_000) * 1e-6
    distance = np.abs(events.x - centre) - size / 2
    # half a pixel of antialiasing, and the step between two drawn images
    assert (np.abs(distance) <= 0.6 + STEP_PX).all()
    assert (np.abs(events.y.astype(float) - 30) <= size / 2 + 1).all()
    ahead = events.x > centre
    assert (events.p[ahead] == 1).all()  # a bright square brightens what it comes to
    assert (events.p[~ahead] == 0).all()


def test_labels_and_picture_show_the_end_of_the_window():
    window = simulate_window(square_scene(), CLEAN, 50_000, np.random.default_rng(0))
    rows, columns = np.nonzero(window.labels == 5)
    assert columns.mean() == pytest.approx(45.0, abs=0.5)
    assert rows.mean() == pytest.approx(30.0, abs=0.5)
    assert abs(len(rows) - 15 * 15) <= 2 * 15
    bright = window.image > window.image[0, 0] + 5
    assert (bright == (window.labels == 5)).mean() > 0.985  # up to half-covered border pixels


def test_a_moving_camera_moves_labels_and_picture_together():
    rng = np.random.default_rng(0)
    labels = np.zeros((120, 160), np.uint8)
    labels[40:80, 60:110] = 3
    log = np.where(labels == 3, np.float32(-0.5), np.float32(-3)).astype(np.float32)
    camera = Motion(velocity=np.array([150.0, -80.0, 0.8, 0.5, 1e-4, 0.0]), shake=np.full(6, 0.001))
    place = shift(30, 30)
    scene = Scene(log, labels, place, height=HEIGHT, width=WIDTH, camera=camera)
    window = simulate_window(scene, CLEAN, 50_000, rng)
    inside = window.labels == 3
    assert 200 < inside.sum() < 4000
    assert ((window.image > 100) == inside).mean() > 0.97
    assert len(window.events) > 500
    # the place of the labels is the end of the motion, not its start
    start = scene.labels(-0.025) == 3
    assert (start != inside).sum() > 100


def test_fixed_camera_and_nothing_moving_is_noise_alone():
    scene = Scene(*still_background(), height=HEIGHT, width=WIDTH)
    assert len(simulate_window(scene, CLEAN, 50_000, np.random.default_rng(0)).events) == 0
    noisy = SensorModel(noise_hz=10.0)
    count = len(simulate_window(scene, noisy, 50_000, np.random.default_rng(0)).events)
    assert count == pytest.approx(10.0 * 0.05 * HEIGHT * WIDTH, rel=0.15)


def test_a_layer_in_front_hides_the_one_behind():
    front = square_scene().layers[0]
    behind = Layer(front.log, front.alpha, 4, STILL, (47.0, 30.0), pivot=front.pivot)
    scene = Scene(*still_background(), height=HEIGHT, width=WIDTH, layers=[behind, front])
    labels = scene.labels(0.0)
    assert labels[30, 45] == 5
    assert labels[30, 53] == 4


def test_outside_of_the_background_is_ignored():
    log, labels, _ = still_background()
    scene = Scene(log, labels, shift(-10, 0), height=HEIGHT, width=WIDTH)
    assert (scene.labels(0.0)[:, :10] == 255).all()
    assert (scene.labels(0.0)[:, 10:] == 0).all()


def test_faster_scenes_are_drawn_more_often():
    slow, fast = square_scene((20, 0)), square_scene((900, 0))
    assert slow.steps(50_000) < fast.steps(50_000)
    assert fast.steps(50_000) >= 45 / STEP_PX


def example_image(seed=0, height=120, width=160):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    picture = picture.repeat(8, 0).repeat(8, 1)
    labels = np.zeros((height, width), np.uint8)
    labels[:30] = 1
    labels[50:80, 40:90] = 5
    labels[50:100, 110:125] = 4
    return LabelledImage.from_arrays(picture, labels)


def test_things_are_cut_by_component():
    things = list(cut_things(example_image(), (4, 5)))
    assert {(t.label, t.mask.shape, bool(t.mask.all())) for t in things} == {
        (5, (30, 50), True),
        (4, (50, 15), True),
    }
    assert list(cut_things(example_image(), (4, 5), min_pixels=10_000)) == []


def test_objects_that_touch_are_cut_apart_and_halves_are_left_out():
    labels, objects = np.full((100, 120), 254, np.uint8), np.zeros((100, 120), np.uint16)
    places = {
        1: (4, np.s_[20:60, 20:35]),
        2: (4, np.s_[20:60, 35:50]),  # beside it: one component with it
        3: (5, np.s_[30:50, 60:100]),
        4: (5, np.s_[80:99, 10:60]),  # cut by the lower border
        5: (4, np.s_[1:40, 105:115]),  # cut by the upper border, as far as outlines say
        6: (2, np.s_[60:75, 60:90]),  # no thing
    }
    for number, (label, place) in places.items():
        labels[place], objects[place] = label, number
    labels[40:45, 20:35] = 255  # a tie: of the object, whatever its label
    picture = np.full((100, 120, 3), 9, np.uint8)
    things = list(cut_things(LabelledImage.from_arrays(picture, labels, "", objects), (4, 5)))
    assert [(t.label, t.mask.shape, bool(t.mask.all())) for t in things] == [
        (4, (40, 15), True),
        (4, (40, 15), True),
        (5, (20, 40), True),
    ]


def test_an_object_in_two_halves_is_hidden_by_another_and_left_out():
    labels, objects = np.full((100, 120), 254, np.uint8), np.zeros((100, 120), np.uint16)
    labels[20:60, 20:60], objects[20:60, 20:60] = 5, 1
    labels[20:60, 35:45], objects[20:60, 35:45] = 4, 2
    image = LabelledImage.from_arrays(np.full((100, 120, 3), 9, np.uint8), labels, "", objects)
    assert [t.label for t in cut_things(image, (4, 5))] == [4]


@pytest.mark.parametrize("moving_camera", [0.0, 1.0])
@pytest.mark.parametrize("still_things", [True, False])
def test_scenes_keep_what_is_none_of_some_classes(moving_camera, still_things):
    image = example_image()
    labels = np.where(image.labels < 4, np.uint8(254), image.labels)
    ranges = SceneRanges(
        moving_camera=moving_camera, moving_things=1.0, still_things=still_things,
        distractors=(3, 4), near_person=0.0,
    )  # fmt: skip
    factory = SceneFactory(
        [LabelledImage(image.code, labels)], SIX_CLASSES, height=80, width=100, ranges=ranges
    )
    found, rng = np.zeros(256, np.int64), np.random.default_rng(0)
    for _ in range(12):
        scene = factory.make(SensorModel.random(rng), rng)
        found += np.bincount(scene.labels(0.01).ravel(), minlength=256)
        pieces = {layer.label for layer in scene.layers if layer.label is not None}
        assert pieces <= {2, 4, 5, 254}
    # Nobody invents ground, walls or plants where nobody has seen any.
    assert not found[[0, 1, 3]].any()
    assert found[254] > 0.3 * found.sum()
    assert bool(found[255]) == (not still_things and not moving_camera)


@pytest.mark.parametrize("moving_camera", [0.0, 1.0])
def test_random_scenes_are_reproducible_and_labelled(moving_camera):
    ranges = SceneRanges(moving_camera=moving_camera, moving_things=1.0)
    factory = SceneFactory([example_image()], SIX_CLASSES, height=50, width=70, ranges=ranges)
    assert factory.num_things == {"vehicles": 1, "people": 1}
    seen = set()
    for seed in range(12):
        windows = []
        for _ in range(2):
            rng = np.random.default_rng(seed)
            sensor = SensorModel.random(rng)
            windows.append(simulate_window(factory.make(sensor, rng), sensor, 50_000, rng))
        first, second = windows
        assert first.events.equals(second.events)
        np.testing.assert_array_equal(first.labels, second.labels)
        np.testing.assert_array_equal(first.image, second.image)
        assert first.events.t_us.min() >= 0
        assert first.events.t_us.max() < 50_000
        seen |= set(np.unique(first.labels))
    assert {0, 1, 4, 5} <= seen <= {0, 1, 2, 3, 4, 5, 255}


def test_too_short_a_window_is_refused():
    with pytest.raises(ValueError, match="at least 100"):
        simulate_window(square_scene(), CLEAN, 50, np.random.default_rng(0))


@pytest.mark.parametrize("names", [("road", "car"), ("a", "b", "c"), ("ground", "person")])
def test_class_tables_without_our_roles(names):
    things = {"car", "person"}
    classes = ClassTable(tuple(ClassInfo(n, (1, 2, 3), n in things) for n in names))
    image = example_image()
    labels = np.where(image.labels >= 4, np.uint8(1), np.uint8(0))
    factory = SceneFactory(
        [LabelledImage(image.code, labels)], classes, height=40, width=50,
        ranges=SceneRanges(moving_camera=0, near_person=1, distractors=(2, 3), people=(1, 2)),
    )  # fmt: skip
    seen = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        seen |= set(np.unique(factory.make(CLEAN, rng).labels(0.0)))
    assert seen <= {0, 1, 255}
    assert 255 in seen  # distractors have no class to be


def test_pictures_of_any_size_and_extreme_ranges():
    tiny = LabelledImage.from_arrays(np.full((3, 5), 90, np.uint8), np.full((3, 5), 5, np.uint8))
    wide = example_image(height=40, width=800)
    ranges = SceneRanges(
        moving_camera=0.5, moving_things=1.0, vehicles=(0, 8), vehicle_length_px=(1.0, 3000.0),
        person_height_px=(2.0, 900.0), head_px=(4.0, 500.0), distractor_px=(1.0, 900.0),
        camera_speed_px_s=(1.0, 50_000.0), vehicle_speed_px_s=(1.0, 50_000.0),
        near_person=0.5, light_probability=1.0, flicker_probability=1.0,
    )  # fmt: skip
    factory = SceneFactory([tiny, wide], SIX_CLASSES, height=48, width=64, ranges=ranges)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        sensor = SensorModel.random(rng)
        window = simulate_window(factory.make(sensor, rng), sensor, 20_000, rng)
        assert np.isfinite(window.image).all()
        assert set(np.unique(window.labels)) <= {0, 1, 2, 3, 4, 5, 255}


def test_no_image_is_refused():
    with pytest.raises(DataError, match="at least one"):
        SceneFactory([], SIX_CLASSES, height=10, width=10)
    with pytest.raises(DataError, match="differ in size"):
        LabelledImage.from_arrays(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8))
    with pytest.raises(DataError, match="expected uint8"):
        LabelledImage.from_arrays(np.zeros((3, 4), np.uint16), np.zeros((3, 4), np.uint8))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"moving_camera": 1.5}, r"moving_camera must lie in 0\.\.1"),
        ({"vehicles": (3, 1)}, "vehicles must be"),
        ({"zoom": (0.5, 1.5)}, "zoom must be"),
        ({"head_px": (0.0, 5.0)}, "head_px must be"),
    ],
)
def test_wrong_ranges_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        SceneRanges(**values)


def test_every_thing_has_its_number_and_what_covers_it_hides_it():
    front = dataclasses.replace(square_scene().layers[0], thing=7)
    behind = Layer(
        front.log, front.alpha, 5, STILL, (47.0, 30.0), pivot=front.pivot, thing=8
    )  # fmt: skip
    leaf = Layer(front.log, front.alpha, 2, STILL, (47.0, 40.0), pivot=front.pivot)
    shadow = Layer(front.log, front.alpha, None, STILL, (47.0, 25.0), pivot=front.pivot)
    log, labels, place = still_background()
    objects = np.zeros(labels.shape, np.uint16)
    objects[:, 70:] = 300  # more than a byte holds
    scene = Scene(
        log, labels, place, height=HEIGHT, width=WIDTH,
        layers=[behind, front, leaf, shadow], objects=objects,
    )  # fmt: skip
    found = scene.instances(0.0)
    assert found.dtype == np.uint16
    assert (found[30, 45], found[28, 53], found[5, 75]) == (7, 8, 300)
    assert found[40, 50] == 0  # a leaf in front of a thing hides it
    assert found[25, 45] == 7  # a shadow does not
    assert (found[scene.labels(0.0) == 2] == 0).all()


def test_things_of_an_image_are_its_objects_or_the_components_of_its_thing_classes():
    labels = np.zeros((10, 20), np.uint8)
    labels[2:5, 2:6] = 5
    labels[2:5, 10:14] = 5
    labels[6:9, 2:6] = 4
    labels[9, 19] = 1
    alone = number_things(labels, None, (4, 5))
    assert len({int(alone[3, 3]), int(alone[3, 11]), int(alone[7, 3])} - {0}) == 3
    assert ((alone > 0) == np.isin(labels, (4, 5))).all()
    # Objects are numbered again; those of other classes are none.
    objects = np.zeros((10, 20), np.uint16)
    objects[2:5, 2:14] = 900
    objects[9, 19] = 2
    named = number_things(labels, objects, (4, 5))
    assert set(np.unique(named)) == {0, 1}
    assert (named[3, 3], named[3, 11], named[9, 19]) == (1, 1, 0)


@pytest.mark.parametrize("extra", [{}, {"overlap": 0.5, "crossing": 0.5, "group": 1.0}])
def test_a_random_scene_numbers_exactly_its_things(extra):
    ranges = SceneRanges(moving_things=1.0, vehicles=(2, 3), people=(2, 3), **extra)
    factory = SceneFactory(
        [example_image()], SIX_CLASSES, height=HEIGHT, width=WIDTH, ranges=ranges
    )
    for seed in range(8):
        scene = factory.make(CLEAN, np.random.default_rng(seed))
        labels, instances = scene.labels(0.0), scene.instances(0.0)
        assert ((instances > 0) == np.isin(labels, SIX_CLASSES.thing_ids)).all()
        for number in np.unique(instances[instances > 0]):
            assert len(np.unique(labels[instances == number])) == 1
        # One number a thing: parts of a walker share it, and no other thing has it.
        things = {layer.thing: id(layer.motion) for layer in scene.layers if layer.thing}
        assert len(set(things.values())) == len(things)


def boxes_of(scene, t_s=0.0):
    instances = scene.instances(t_s)
    rows = {}
    for number in {layer.thing for layer in scene.layers if layer.thing}:
        y, x = np.nonzero(instances == number)
        if len(x):
            rows[number] = (x.min(), y.min(), x.max(), y.max())
    return rows


def crowded(**chances):
    ranges = SceneRanges(
        moving_camera=0.0, vehicles=(3, 3), people=(0, 0), distractors=(0, 0), near_person=0.0,
        vehicle_length_px=(20.0, 30.0), **chances,
    )  # fmt: skip
    factory = SceneFactory([example_image()], SIX_CLASSES, height=120, width=160, ranges=ranges)
    return [factory.make(CLEAN, np.random.default_rng(seed)) for seed in range(30)]


def touching(boxes):
    boxes = list(boxes.values())
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    return sum(a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3] for a, b in pairs)


def test_things_overlap_and_are_cut_by_the_border_on_purpose():
    plain, over, out = crowded(), crowded(overlap=1.0), crowded(partly_out=1.0)
    count = [sum(touching(boxes_of(scene)) for scene in scenes) for scenes in (plain, over)]
    assert count[1] > 2 * count[0]

    def cut(scenes):
        boxes = [b for scene in scenes for b in boxes_of(scene).values()]
        return sum(b[0] == 0 or b[1] == 0 or b[2] == 159 or b[3] == 119 for b in boxes) / len(boxes)

    assert cut(out) > 0.8 > 2 * cut(plain)


def test_things_that_cross_come_from_opposite_sides():
    met = 0
    for scene in crowded(crossing=1.0):
        things = [layer for layer in scene.layers if layer.thing]
        for k, one in enumerate(things):
            for other in things[:k]:
                near = abs(one.origin[0] - other.origin[0]) < 35
                level = abs(one.origin[1] - other.origin[1]) < 20
                opposite = one.motion.velocity[0] * other.motion.velocity[0] < 0
                met += near and level and opposite
    assert met >= 25


def test_groups_of_people_walk_side_by_side_one_way():
    ranges = SceneRanges(
        moving_camera=0.0, vehicles=(0, 0), people=(1, 1), distractors=(0, 0), near_person=0.0,
        person_height_px=(40.0, 60.0), group=1.0, group_size=(3, 3),
    )  # fmt: skip
    factory = SceneFactory([example_image()], SIX_CLASSES, height=120, width=160, ranges=ranges)
    for seed in range(6):
        scene = factory.make(CLEAN, np.random.default_rng(seed))
        people = {layer.thing: layer for layer in scene.layers if layer.thing}
        assert len(people) == 3
        columns = sorted(layer.origin[0] for layer in people.values())
        assert 10 < columns[-1] - columns[0] < 70
        assert len({np.sign(layer.motion.velocity[0]) for layer in people.values()}) == 1


def test_a_group_has_two_people_at_least():
    with pytest.raises(ConfigError, match=r"group_size must be .* within 2\.\.1000, got \(1, 3\)"):
        SceneRanges(group_size=(1, 3))


def test_windows_in_a_row_are_one_film():
    scene = square_scene((100.0, 0.0))
    windows = list(simulate_windows(scene, CLEAN, 50_000, 4, np.random.default_rng(0)))
    assert [(w.t_start_us, w.t_end_us) for w in windows] == [
        (k * 50_000, (k + 1) * 50_000) for k in range(4)
    ]
    columns = [float(np.nonzero(w.labels == 5)[1].mean()) for w in windows]
    assert columns == pytest.approx([35.0, 40.0, 45.0, 50.0], abs=0.6)
    times = np.concatenate([w.events.t_us for w in windows])
    assert (np.diff(times) >= 0).all()
    assert all(len(w.events) > 100 for w in windows)
    np.testing.assert_array_equal(windows[-1].labels, scene.labels(0.1))


def test_scenes_of_a_film_are_calm():
    ranges = SceneRanges(moving_camera=0.5, moving_things=1.0, vehicles=(3, 3), people=(2, 2))
    factory = SceneFactory(
        [example_image()], SIX_CLASSES, height=120, width=160, ranges=ranges, span_s=4.0
    )
    for seed in range(10):
        scene = factory.make(CLEAN, np.random.default_rng(seed))
        for layer in scene.layers:
            turned, grown = np.abs(layer.motion.offset(2.0) - layer.motion.offset(-2.0))[2:4]
            assert turned <= 1.3
            assert grown <= 1.1
            # Whoever comes in on the left leaves on the right.
            speed, change = layer.motion.velocity[0], 2.0 * layer.motion.acceleration[0]
            assert abs(change) < abs(speed)
        frame = scene.labels(2.0)
        assert (frame != 255).mean() > 0.1  # the camera has not turned away from its picture


def still_camera(**chances):
    ranges = SceneRanges(
        moving_camera=0.0, vehicles=(0, 0), people=(0, 0), distractors=(1, 1), near_person=0.0,
        distractor_px=(20.0, 60.0), **chances,
    )  # fmt: skip
    factory = SceneFactory([example_image()], SIX_CLASSES, height=120, width=160, ranges=ranges)
    return [factory.make(CLEAN, np.random.default_rng(seed)) for seed in range(60)]


def test_things_that_turn_or_shake_stay_where_they_are_and_are_no_things():
    """A second later they are within a fifth of their size, and they have moved meanwhile."""
    turned = shaken = 0
    for scene in still_camera(turning=1.0):
        layers = scene.layers
        if not layers:  # a few scenes stay empty
            continue
        assert not any(layer.thing for layer in layers)
        assert {layer.label for layer in layers}.isdisjoint(SIX_CLASSES.thing_ids)
        (motion,) = {id(layer.motion): layer.motion for layer in layers}.values()
        assert np.hypot(*motion.velocity[:2]) <= 30.0
        assert (motion.velocity[3:] == 0).all()
        turned += abs(motion.velocity[2]) >= 0.5
        shaken += bool(motion.shake[:2].any())
        assert motion.velocity[2] or motion.shake.any()
    assert turned > 25
    assert shaken > 20


def image_with_objects():
    """A photograph that says of one object what it is, and of another that it is of no class."""
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (15, 20, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    labels, objects = np.full((120, 160), 254, np.uint8), np.zeros((120, 160), np.uint16)
    labels[20:60, 20:35], objects[20:60, 20:35] = 4, 1
    objects[40:70, 80:130] = 2
    return LabelledImage.from_arrays(picture, labels, "", objects)


def test_things_of_no_class_are_cut_out_where_images_name_them():
    image = image_with_objects()
    wanted = (*SIX_CLASSES.thing_ids, 254)
    found = [(t.label, t.mask.shape, bool(t.mask.all())) for t in cut_things(image, wanted)]
    assert found == [(4, (40, 15), True), (254, (30, 50), True)]
    assert [t.label for t in cut_things(image, SIX_CLASSES.thing_ids)] == [4]
    # Without named objects 254 is everything around: no thing.
    bare = LabelledImage(image.code, image.labels)
    assert [t.label for t in cut_things(bare, wanted)] == [4]


def test_cut_out_things_of_no_class_move_and_are_none():
    ranges = SceneRanges(
        moving_camera=0.0, still_things=False, vehicles=(0, 0), people=(0, 0), distractors=(2, 2),
        near_person=0.0, distractor_px=(20.0, 60.0), cutouts=1.0, turning=0.5,
    )  # fmt: skip
    factory = SceneFactory(
        [image_with_objects()], SIX_CLASSES, height=120, width=160, ranges=ranges
    )
    assert factory.num_things == {"vehicles": 0, "people": 1, "others": 1}
    turned = shaped = 0
    for seed in range(40):
        scene = factory.make(CLEAN, np.random.default_rng(seed))
        assert not scene.instances(0.0).any()
        assert set(np.unique(scene.labels(0.0))) <= {254, 255}  # 255: a person in the background
        for layer in scene.layers:
            assert layer.label == 254
            assert layer.motion is not STILL
            rows, columns = np.nonzero(layer.alpha > 0.5)
            size = 1 + max(np.ptp(rows), np.ptp(columns))
            assert 18 <= size <= 62 * np.hypot(1, 0.6)
            turned += layer.motion.shake.any()
            shaped += 1
    assert 20 < turned < shaped


def test_cutouts_need_images_that_name_things_of_no_class():
    ranges = SceneRanges(cutouts=0.5)
    with pytest.raises(DataError, match=r"cutouts 0\.5 asks for things of no class.*1 images"):
        SceneFactory([example_image()], SIX_CLASSES, height=120, width=160, ranges=ranges)


def test_a_lamp_is_a_bright_core_with_a_faint_halo_and_no_thing():
    bright = 0
    for scene in still_camera(lamps=1.0, light_probability=0.0):
        cores, halos = scene.lights[::2], scene.lights[1::2]
        assert 1 <= len(cores) == len(halos) <= 3
        for core, halo in zip(cores, halos, strict=True):
            assert core.is_sharp
            assert 1.0 <= core.amount <= 5.0
            assert halo.amount <= 0.3 * core.amount
            assert min(np.divide(halo.radius, core.radius)) >= 2.0
            assert halo.motion is core.motion
            assert core.motion is not STILL
            bright += core.amount > 2.0
    assert bright > 30


def test_a_moving_lamp_makes_events_on_both_of_its_sides():
    """What it comes to gets brighter, what it leaves gets darker."""
    motion = Motion(velocity=np.array([100.0, 0, 0, 0, 0, 0]))
    lamp = Light(motion, (40.0, 30.0), (10.0, 10.0), 3.0, is_sharp=True)
    scene = Scene(*still_background(), height=HEIGHT, width=WIDTH, lights=[lamp])
    assert scene.steps(50_000) >= 3  # 5 px in steps of at most 1.5
    window = simulate_window(scene, CLEAN, 50_000, np.random.default_rng(0))
    on = window.events.x[window.events.p == 1]
    off = window.events.x[window.events.p == 0]
    assert min(len(on), len(off)) > 200
    assert on.mean() > 42.0
    assert off.mean() < 38.0
