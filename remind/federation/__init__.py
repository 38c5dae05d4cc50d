"""What crosses the wire: blocks of tensors, typed message contents, the weights with which sites count."""
