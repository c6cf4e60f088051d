"""View generators: which rows are positives of which."""

from graphcl.views.cross_layer import CrossLayer as CrossLayer
from graphcl.views.learned import LearnedAugment as LearnedAugment
from graphcl.views.prototypes import Prototypes as Prototypes
from graphcl.views.relayed import Relayed as Relayed
from graphcl.views.relayed_layers import RelayedLayers as RelayedLayers
from graphcl.views.retrieved import Retrieved as Retrieved
from graphcl.views.same_target import SameTarget as SameTarget
from graphcl.views.two_inputs import TwoInputs as TwoInputs
from graphcl.views.two_noises import TwoNoises as TwoNoises
from graphcl.views.two_sequences import TwoSequences as TwoSequences
