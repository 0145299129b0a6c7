"""Words have room in every figure."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.figures import band, log_band, save

STUDIES = Path(__file__).parents[2] / "experiments" / "studies"


@pytest.mark.parametrize("where", ["title", "legend", "panel"])
def test_a_figure_grows_with_its_words(where, tmp_path):
    figure = Figure(figsize=(2, 2), layout="constrained")
    panel = figure.subplots()
    words = "a sentence that two inches have no room for"
    (line,) = panel.plot([0, 1], label=words)
    if where == "title":
        shown = figure.suptitle(words)
    elif where == "legend":
        shown = figure.legend(handles=[line], loc="outside lower center")
    else:
        shown = panel.set_title(words)
    save(figure, tmp_path / "figure.png")
    figure.draw_without_rendering()
    extent = shown.get_window_extent()
    assert figure.bbox.x0 <= extent.x0
    assert extent.x1 <= figure.bbox.x1


def test_a_figure_with_room_stays_as_it_was_made(tmp_path):
    figure = Figure(figsize=(4, 2), layout="constrained")
    figure.subplots().set_title("short")
    save(figure, tmp_path / "figure.png")
    assert figure.get_size_inches().tolist() == [4, 2]


def test_every_study_saves_its_figures_this_way():
    assert not [path for path in STUDIES.rglob("*.py") if ".savefig(" in path.read_text("utf-8")]


def test_a_band_of_logarithms_is_the_geometric_mean_and_ends_where_a_seed_diverges():
    panel = Figure().subplots()
    values = np.array([[1.0, 2.0, np.nan], [4.0, 2.0, 3.0]])
    log_band(panel, [0, 1, 2], np.log(values), {"color": "k"})
    np.testing.assert_allclose(panel.lines[0].get_ydata(), [2, 2, np.nan])
    ends = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert ends.min() < 1 < 4 < ends.max(), "two seeds leave a wide interval"


@pytest.mark.parametrize("draw", [band, log_band])
def test_a_curve_of_one_point_can_be_seen(draw):
    panel = Figure().subplots()
    values = np.array([[1.0, np.nan], [4.0, np.nan]])
    draw(panel, [0, 1], values, {"color": "k"})
    draw(panel, [0, 1], values[:, :1].repeat(2, axis=1), {"color": "k"})
    assert [line.get_marker() for line in panel.lines] == [".", ""]


def test_logarithms_of_nothing_finite_can_be_drawn(tmp_path):
    figure = Figure(layout="constrained")
    panel = figure.subplots()
    log_band(panel, [0, 1], np.full((2, 2), np.nan), {"color": "k"})
    panel.set_yscale("log")
    save(figure, tmp_path / "figure.png")
    assert not panel.lines
