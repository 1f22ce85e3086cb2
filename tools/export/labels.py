"""The label lists that models do not carry themselves: one label a line, the line number is the class."""

from pathlib import Path

IMAGENET = Path(__file__).with_name("imagenet_labels.txt")
"""The 1,000 classes of ILSVRC 2012, the first name of each synset; three have another, so that no name comes twice."""
COCO = Path(__file__).with_name("coco_labels.txt")
"""The 80 classes of COCO 2017 in the order of their ids."""
COCO_GAPS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""Ids of 1..90 that COCO leaves out."""
