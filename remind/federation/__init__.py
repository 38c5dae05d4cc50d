"""What is sent between sites and coordinator: blocks of tensors, typed messages, and the weights of the sites."""
