"""`simulate(left_out=True)` behind Adam and with trained numbers: against retraining by the same loops without each of some samples."""
