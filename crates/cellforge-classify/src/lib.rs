//! Cell classifiers: the small CNN and the pre-activation ResNet.
