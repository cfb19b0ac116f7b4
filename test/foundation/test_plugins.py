import sys

import pytest

from evdistill_core.foundation import plugins
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.plugins import Registry, in_one_line, is_object_name
from evdistill_core.foundation.suggestions import did_you_mean

GROUP = "evdistill.test_things"


@pytest.fixture
def registry():
    def adapt(name, found):
        if not callable(found):
            raise ConfigError(f"thing {name!r} is no function")
        return found

    return Registry("thing", GROUP, {"ours": len, "other": max}, adapt)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on the import path; modules that tests import from it are forgotten again."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def install(folder, distribution, entries):
    """Write the files that pip writes for a package with entry points."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) + "\n")


def test_ours_come_first_and_no_plugin_replaces_them(registry, folder):
    (folder / "thief.py").write_text("def steal(): raise AssertionError\n")
    install(folder, "thief", {"ours": "thief:steal"})
    assert registry.get("ours") is len
    assert "thief" not in sys.modules


def test_an_entry_point_is_found_and_listed(registry, folder):
    (folder / "guest.py").write_text(
        "def thing(): return 41\nclass Box:\n  def inner(): return 2\n"
    )
    install(folder, "guest", {"visitor": "guest:thing", "boxed": "guest:Box.inner"})
    assert registry.names() == ["boxed", "other", "ours", "visitor"]
    assert "guest" not in sys.modules  # listing imports nothing
    assert registry.get("visitor")() == 41
    assert registry.get("boxed")() == 2
    assert registry.get("guest:Box.inner")() == 2


def test_two_packages_with_one_entry_point_are_told_apart_by_module(registry, folder):
    for name in ("first", "second"):
        (folder / f"{name}.py").write_text(f"def thing(): return {name!r}\n")
        install(folder, name, {"same": f"{name}:thing"})
    with pytest.raises(ConfigError, match=r"2 installed packages .*first:thing, second:thing"):
        registry.get("same")
    assert registry.get("second:thing")() == "second"


def test_one_package_installed_twice_is_one(registry, folder):
    (folder / "guest.py").write_text("def thing(): return 41\n")
    install(folder, "guest", {"visitor": "guest:thing"})
    install(folder, "guest-again", {"visitor": "guest:thing"})
    assert registry.get("visitor")() == 41


def test_an_unknown_name_lists_the_known_ones(registry):
    with pytest.raises(ConfigError) as caught:
        registry.get("our")
    assert str(caught.value) == (
        "unknown thing 'our'; known: other, ours, or package.module:function; did you mean 'ours'?"
    )
    for name in ("zzz", "", "no function:here", "a:b:c", ":f", "m:", "m:f()", "../m:f"):
        assert not is_object_name(name)
        with pytest.raises(ConfigError, match="unknown thing"):
            registry.get(name)


def test_a_missing_module_or_function_says_what_is_missing(registry, folder):
    (folder / "tools.py").write_text("def colour_wheel(): pass\n")
    with pytest.raises(ConfigError, match=r"no module 'absent'; install its package"):
        registry.get("absent.deep:thing")
    with pytest.raises(ConfigError, match=r"no module 'tools.deep'; install its package"):
        registry.get("tools.deep:thing")
    with pytest.raises(ConfigError, match=r"tools has no 'colour_weel'; did you mean 'colour_wh"):
        registry.get("tools:colour_weel")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import not_there_at_all\n", r"ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("x = 1\ny = x / 0\n", r"ZeroDivisionError: division by zero \(.*broken.py, line 2\)"),
        ("def thing(:\n", r"SyntaxError: .*broken.py, line 1"),
        ("import sys\nsys.exit('first\\nsecond')\n", "SystemExit: first second"),
    ],
)
def test_an_error_in_the_users_module_is_said_in_one_line(registry, folder, source, said):
    (folder / "broken.py").write_text(source)
    with pytest.raises(ConfigError, match=f"broken cannot be imported: {said}") as caught:
        registry.get("broken:thing")
    assert "\n" not in str(caught.value)


def test_an_object_of_another_kind_is_refused(registry, folder):
    (folder / "tools.py").write_text("number = 3\n")
    with pytest.raises(ConfigError, match="is no function"):
        registry.get("tools:number")
    registry.check_file_name("ours", "a.evstudent")
    with pytest.raises(ConfigError):  # what failed was not accepted
        registry.check_file_name("tools:number", "a.evstudent")


def test_a_file_from_elsewhere_imports_nothing_that_was_not_allowed(registry, folder, monkeypatch):
    (folder / "evil.py").write_text("raise AssertionError('this code was run')\n")
    with pytest.raises(ConfigError, match=r"x.pt names the thing 'evil:thing'.*PLUGINS=evil and"):
        registry.check_file_name("evil:thing", "x.pt")
    assert "evil" not in sys.modules
    monkeypatch.setenv("EVDISTILL_PLUGINS", "evi, evil.deeper ,evilish,,")
    with pytest.raises(ConfigError, match="outside of evdistill"):
        registry.check_file_name("evil:thing", "x.pt")
    monkeypatch.setenv("EVDISTILL_PLUGINS", "evil, another")
    registry.check_file_name("evil:thing", "x.pt")
    registry.check_file_name("evil.deeper:thing", "x.pt")


def test_what_the_user_allowed_or_named_himself_may_stand_in_a_file(registry, folder, monkeypatch):
    (folder / "tools.py").write_text("def thing(): pass\ndef other(): pass\n")
    registry.get("tools:thing")
    registry.check_file_name("tools:thing", "x.pt")
    with pytest.raises(ConfigError):  # the very same function, not its neighbours
        registry.check_file_name("tools:other", "x.pt")
    monkeypatch.setattr(plugins, "_allowed_here", set())
    plugins.allow("tools")
    registry.check_file_name("tools:other", "x.pt")


def test_an_error_without_text_or_place_is_still_a_line():
    assert in_one_line(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("voxl", "; did you mean 'voxel'?"), ("VOXEL", "; did you mean 'voxel'?"), ("zebra", "")],
)
def test_suggestions(name, expected):
    assert did_you_mean(name, ["voxel", "counts2"]) == expected
