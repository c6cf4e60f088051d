"""Objectives and the negatives they compare with. Which one for which data: the table "Objectives" in README.md."""

from graphcl.objectives.align_uniform import AlignUniform as AlignUniform
from graphcl.objectives.approximate import Approximate as Approximate
from graphcl.objectives.approximate import Gap as Gap
from graphcl.objectives.bank import Bank as Bank
from graphcl.objectives.barlow import BarlowTwins as BarlowTwins
from graphcl.objectives.bsl import BSL as BSL
from graphcl.objectives.ccl import CCL as CCL
from graphcl.objectives.cluster_means import ClusterMeans as ClusterMeans
from graphcl.objectives.cluster_state import ClusterState as ClusterState
from graphcl.objectives.clusters import Clusters as Clusters
from graphcl.objectives.clusters import ClusterSampled as ClusterSampled
from graphcl.objectives.dcl import DCL as DCL
from graphcl.objectives.dhel import DHEL as DHEL
from graphcl.objectives.infonce import InfoNCE as InfoNCE
from graphcl.objectives.jsd import JSD as JSD
from graphcl.objectives.negative_cosine import NegativeCosine as NegativeCosine
from graphcl.objectives.negatives import AllKeys as AllKeys
from graphcl.objectives.negatives import InBatch as InBatch
from graphcl.objectives.ntxent import NTXent as NTXent
from graphcl.objectives.partition import Partition as Partition
from graphcl.objectives.prototypes import ProtoNCE as ProtoNCE
from graphcl.objectives.sampled import Sampled as Sampled
from graphcl.objectives.vicreg import VICReg as VICReg
from graphcl.objectives.weighted_infonce import WeightedInfoNCE as WeightedInfoNCE
