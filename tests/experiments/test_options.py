"""A dataclass becomes a command line and an entry of ``meta.json``."""

import dataclasses

import pytest

from experiments.errors import UsageError
from experiments.kinds import below_one, count, positive, share
from experiments.options import (
    Parser,
    add_options,
    choice,
    data_dir,
    derived,
    fixed,
    many,
    names,
    one,
    output,
    positional,
    read_options,
    recorded,
    seeds,
    switch,
)

PLACES = {"top": "the highest", "hut": "below it"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    source: str | None = positional(str, "where from", nargs="?")
    place: str = choice("place", PLACES, "top")
    places: tuple[str, ...] = names("place", PLACES)
    ropes: tuple[int, ...] = many(count, (3, 1), "N", "lengths", ordered=True)
    weight_limit: float | None = one(positive, None, "KG", "of the pack", shown="none")
    days: float | None = one(positive, either="duration", recorded=False)
    hours: float | None = one(positive, either="duration", recorded=False)
    guides: bool = switch("go alone", off=True)
    camp: bool = switch("sleep outside")
    seeds: tuple[int, ...] = seeds(2, first=5)
    boots: str = fixed("leather", "on all tours")
    duration: float = derived("in hours")
    data_dir: str | None = data_dir()
    output: str | None = output()

    def completed(self):
        return dataclasses.replace(self, duration=self.hours or 24 * (self.days or 1))


def read(text):
    parser = Parser(prog="tour")
    add_options(parser, Config)
    return read_options(Config, parser.parse_args(text.split()))


def test_without_options_every_field_has_its_default():
    config = read("")
    assert config == dataclasses.replace(Config(), ropes=(1, 3), duration=24)
    assert config.guides
    assert not config.camp
    assert config.seeds == (5, 6)


def test_options_reach_the_fields():
    config = read(
        "valley --place hut --places hut top hut --ropes 4 2 4 --weight-limit 9.5 --hours 7 "
        "--no-guides --camp --seeds 3 --first-seed 1 --data-dir maps --output log"
    )
    assert (config.source, config.place, config.places) == ("valley", "hut", ("hut", "top"))
    assert (config.ropes, config.weight_limit, config.duration) == ((2, 4), 9.5, 7)
    assert (config.guides, config.camp, config.seeds) == (False, True, (1, 2, 3))
    assert (config.boots, config.data_dir, str(config.output)) == ("leather", "maps", "log")


def test_meta_keeps_what_was_asked_and_no_paths():
    kept = recorded(read("valley --data-dir maps --output log"))
    hidden = {"source", "days", "hours", "data_dir", "output"}
    assert kept.keys() == {field.name for field in dataclasses.fields(Config)} - hidden
    assert kept["duration"] == 24


def test_help_is_what_stands_beside_the_field(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    parser = Parser(prog="tour")
    add_options(parser, Config)
    text = parser.format_help()
    for line in (
        "--ropes N [N ...] lengths; default: 3 1",
        "--weight-limit KG of the pack; default: none",
        "--places NAME [NAME ...] default: top hut",
        "--no-guides go alone",
        "--first-seed N the lowest seed; default: 5",
        "[--days DAYS | --hours HOURS]",
    ):
        assert line in " ".join(text.split())
    assert "boots" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--place valley", "argument --place: unknown place 'valley'; valid: top, hut"),
        ("--days 1 --hours 2", "--hours: not allowed with argument --days"),
        ("--ropes 0", "--ropes: '0' is not a whole number from 1 to 1000000"),
        ("--boots rubber", "unrecognized arguments: --boots"),
    ],
)
def test_errors_are_one_line(text, message):
    with pytest.raises(UsageError, match=r"^[^\n]*$") as error:
        read(text)
    assert message in str(error.value)


def test_kinds_say_their_rule():
    assert below_one("a momentum")("0.5") == 0.5
    for kind, text, rule in (
        (below_one("a momentum"), "1", "is not a momentum from 0 to below 1"),
        (share, "1.5", "is not a number from 0 to 1"),
        (positive, "0", "is not a number above 0"),
    ):
        with pytest.raises(Exception, match=rule):
            kind(text)
