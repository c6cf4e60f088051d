"""Objectives and the negatives they compare with."""

from graphcl.objectives.align_uniform import AlignUniform as AlignUniform
from graphcl.objectives.infonce import InfoNCE as InfoNCE
from graphcl.objectives.negatives import AllKeys as AllKeys
from graphcl.objectives.negatives import InBatch as InBatch
from graphcl.objectives.ntxent import NTXent as NTXent
from graphcl.objectives.prototypes import ProtoNCE as ProtoNCE
from graphcl.objectives.weighted_infonce import WeightedInfoNCE as WeightedInfoNCE
