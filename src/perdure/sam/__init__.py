"""AWS SAM and CloudFormation templates: which functions they deploy."""
