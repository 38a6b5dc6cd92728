"""`cost-hf compare`: systems and baselines on one split and one evaluator, with verdicts and a recommendation."""
