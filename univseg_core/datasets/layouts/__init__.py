"""Published data sets, each read from the layout of its own download."""

from univseg_core.datasets.layouts import camvid, cityscapes, idd, nyuv2, sun_rgbd

LAYOUTS = {
    'cityscapes': cityscapes.LAYOUT,
    'camvid': camvid.LAYOUT,
    'idd': idd.LAYOUT,
    'sun_rgbd': sun_rgbd.LAYOUT,
    'nyuv2_13': nyuv2.LAYOUT_13,
    'nyuv2_40': nyuv2.LAYOUT_40,
}
"""The data sets by the name that a configuration gives them."""
