"""Every method on every task: fitted on labels of training data, measured on test data, put into one table."""
