"""A chart as a still picture, for pages that run no script."""

from typing import Any

import vl_convert

from enforcement.report_page import VEGALITE


def still(spec: dict[str, Any]) -> str:
    """Draw a chart's specification as SVG, without its title: the page has its own words."""
    drawn = {key: value for key, value in spec.items() if key not in ("params", "title")}
    return str(vl_convert.vegalite_to_svg(drawn, vl_version=VEGALITE))
