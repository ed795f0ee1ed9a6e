"""Learning curves: what is learnt is looked at while it is trained, and how long it takes to a target is measured."""
