"""What a hospital does with trained models: adapts them to its patients, predicts, exports."""
