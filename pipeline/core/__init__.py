"""What trains and predicts: importing it needs torch, transformers, tokenizers and safetensors alone."""
