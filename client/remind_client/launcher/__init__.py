"""The door and the warm worker: every task of the coordinator passes through them."""
