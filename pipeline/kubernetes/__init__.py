"""What runs on Kubernetes: manifests, and jobs at their times. Files for kubectl; nothing is applied."""
