"""What tells the file of the scale hyperprior from those of other codecs: see :mod:`icm_codecs.icm.checkpoint`."""

from icm_codecs.hyperprior.network import Analysis, HyperAnalysis, Shape, Synthesis
from icm_codecs.hyperprior.network_exact import ExactScaleSynthesis
from icm_codecs.icm.checkpoint import Kind

HYPERPRIOR = Kind(
    "hyperprior-1",
    Shape,
    Analysis,
    Synthesis,
    HyperAnalysis,
    ExactScaleSynthesis,
    "is no weights file of this codec",
    {},
)
