"""The lab: data sets, models, one training loop, methods, runs, sweeps, reports and the command line."""
