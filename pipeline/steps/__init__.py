"""What commands are made of: each step may touch the outside, and puts wings and rules together."""
