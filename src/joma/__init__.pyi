# Watch a model while it trains
from .studies.watch import watch as watch
from .studies.trainer import TrainerWatch as TrainerWatch
from .studies.lightning import LightningWatch as LightningWatch
from .measure.watch.trainer_callback import TrainerSave as TrainerSave

# Look at saved steps
from .studies.scan import scan as scan
from .studies.scan import verify as verify
from .saved.series import open_series as open_series

# Show a training run
from .studies.show import show as show
from .studies.sentence import sentence as sentence
from .studies.phases import phases as phases
from .measure.curves.order import predict_order as predict_order

# Train networks of joma's own over a grid of settings
from .studies.sweep import sweep as sweep

# Measure tensors
from .measure.attention.statistics import attention_entropy as attention_entropy
from .measure.attention.statistics import attention_statistics as attention_statistics
from .measure.attention.statistics import first_token_share as first_token_share
from .measure.attention.statistics import key_share as key_share
from .measure.spectra.spectrum import stable_rank as stable_rank
from .measure.spectra.spectrum import spectral_norm as spectral_norm
from .measure.spectra.spectrum import effective_rank as effective_rank
from .studies.alignment import alignment as alignment
from .measure.latents.posteriors import against_posterior as against_posterior
from .measure.latents.probes import linear_probe as linear_probe
from .measure.latents.synonyms import synonym_sensitivity as synonym_sensitivity
from .measure.latents.read_off import tree_read_off as tree_read_off
from .measure.latents.levels import level_errors as level_errors
from .measure.latents.controls import with_controls as with_controls

# Learn from a table
from .studies.trees import learn_tree as learn_tree
from .studies.anomalies import tree_anomalies as tree_anomalies

# The theory, solved
from .studies.solve import solve as solve
from .theory.linear import blow_up_time as blow_up_time
from .theory.linear import linear_solution as linear_solution
from .theory.nonlinear import nonlinear_solution as nonlinear_solution
from .theory.normalized import normalized_solution as normalized_solution
from .theory.normalized import sparsest_time as sparsest_time
from .theory.normalized_linear import normalized_linear_solution as normalized_linear_solution
from .theory.invariants import invariant as invariant

# The theory moved by hand
from .studies.explore import explore as explore

# Data with known latents
from .problem.tree import LatentTree as LatentTree
from .problem.tree import balanced_tree as balanced_tree
from .problem.combinatorial import Combinatorial as Combinatorial
from .problem.combinatorial import random_hierarchy as random_hierarchy
from .problem.random_hierarchy import RandomHierarchy as RandomHierarchy
from .problem.filtered import filtered as filtered
from .problem.synonyms import exchange_synonyms as exchange_synonyms
from .theory.hierarchy import cooccurrence as cooccurrence
from .theory.belief import posterior as posterior
from .theory.labels import ceiling_of as ceiling_of
from .theory.correlations import token_correlations as token_correlations
from .theory.correlations import tuple_label_correlations as tuple_label_correlations
from .theory.correlations import sample_complexity as sample_complexity
from .theory.correlations import correlation_threshold as correlation_threshold

# Claims against evidence, also of one's own
from .studies.reproduce import reproduce as reproduce
from .claims.claim import Claim as Claim
from .claims.claim import Reference as Reference
from .claims.workspace import Workspace as Workspace
from .records import Agreement as Agreement
from .records import Control as Control
from .records import Criterion as Criterion
from .records import Estimate as Estimate
from .records import Finding as Finding
from .charts import Chart as Chart
from .charts import Curve as Curve
from .charts import Mark as Mark

# What goes wrong
from .errors import BadInput as BadInput
from .errors import InvalidArgument as InvalidArgument
from .errors import RunFailed as RunFailed

__version__: str
