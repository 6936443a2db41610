"""A single picture for a notebook: on matplotlib axes, or as a plotly figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes

from joma.charts import Chart, Heatmap
from joma.errors import BadInput
from joma.report.drawing.figures import SETTINGS, chart_figure, draw_curves
from joma.report.drawing.heatmaps import draw_image, heatmap_figure, heatmap_plot
from joma.report.drawing.looks import LIGHT, curve_colours, drawing, group_colours
from joma.report.drawing.plots import Plot, literal
from joma.report.drawing.trees import TreePicture, draw_tree, tree_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Picture = Chart | Heatmap | TreePicture


def axes_of(picture: Picture, ax: Axes | None = None) -> Axes:
    """Draw a picture with matplotlib.

    Args:
        picture: a chart, a heatmap or a tree.
        ax: the axes to draw on; ``None`` for a new figure of pyplot, which a notebook shows.

    Returns:
        The axes.
    """
    if ax is None:
        import matplotlib.pyplot as plt

        with matplotlib.rc_context(SETTINGS):
            figure = _figure(picture, plt.figure)
            is_interactive = matplotlib.is_interactive()
        matplotlib.interactive(is_interactive)  # a notebook turns it on with its first figure, and shows none without
        return figure.axes[0]
    if isinstance(picture, TreePicture):
        draw_tree(ax, picture)
        return ax
    if isinstance(picture, Heatmap):
        draw_image(ax, picture)
    else:
        draw_curves(ax, drawing(picture), curve_colours(picture, group_colours([picture])))
        ax.set_ylabel(picture.y_label, parse_math=False)
        handles = [line for line in ax.get_lines() if line.get_gid() == "curve"]
        legend = ax.legend(handles, [curve.label for curve in picture.curves], frameon=False, fontsize="small")
        for text in legend.get_texts():
            text.set_parse_math(False)
    ax.set_title(picture.title, loc="left", parse_math=False)
    return ax


def _figure(picture: Picture, new_figure: Any) -> Any:
    if isinstance(picture, Heatmap):
        return heatmap_figure(picture, new_figure)
    if isinstance(picture, TreePicture):
        return tree_figure(picture, new_figure)
    return chart_figure([picture], group_colours([picture]), new_figure)


def svg_of(picture: Picture) -> bytes:
    """Return a picture as SVG."""
    with matplotlib.rc_context(SETTINGS):
        figure = _figure(picture, None)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": "joma"})
    return content.getvalue()


def interactive(picture: Picture) -> Figure:
    """Return a picture as a plotly figure with legend, title and axis labels.

    Raises:
        BadInput: the picture is a tree.
    """
    from plotly.graph_objects import Figure

    if isinstance(picture, TreePicture):
        raise BadInput("a tree is not drawn by plotly", expected="another picture", remedy="leave out `interactive`")
    if isinstance(picture, Heatmap):
        spec = heatmap_plot(picture)
        spec["data"][0] |= {"hoverinfo": "all", "colorbar": {"title": {"text": literal(picture.value_label)}}}
    else:
        plot = Plot("", drawing(picture), curve_colours(picture, group_colours([picture])))
        spec = plot.spec()
        lines = [trace for trace in spec["data"] if trace.get("hoverinfo") == "none"]
        for trace, curve in zip(lines, picture.curves, strict=True):
            trace |= {"hoverinfo": "all", "name": literal(curve.label)}
        for trace in spec["data"]:
            trace["showlegend"] = trace in lines
        spec["layout"]["showlegend"] = True
    figure = Figure(_with_colours(spec))
    figure.update_layout(title=literal(picture.title), margin={"l": 70, "t": 70, "b": 60}, paper_bgcolor=LIGHT["paper"])
    figure.update_xaxes(title=literal(picture.x_label))
    figure.update_yaxes(title=literal(picture.y_label))
    return figure


def _with_colours(spec: Any, *, is_colour: bool = False) -> Any:
    """Replace the names of colours, which the script of a page looks up, by colours."""
    if isinstance(spec, dict):
        return {key: _with_colours(part, is_colour="color" in key) for key, part in spec.items()}
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return [_with_colours(part, is_colour=is_colour) for part in spec]
    name, _, opacity = spec.partition("/") if is_colour and isinstance(spec, str) else ("", "", "")
    if name not in LIGHT:
        return spec
    red, green, blue = (int(LIGHT[name][at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity or 1})"
