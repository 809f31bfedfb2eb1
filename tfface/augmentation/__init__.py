"""Images changed at random to train on, or by one amount to measure under; importing a list of them is light."""
