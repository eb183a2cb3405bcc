// Package vertical says how much cpu and memory a service's replicas need each,
// from what they have used.
//
// It is the recommender of the Kubernetes VerticalPodAutoscaler
// (vertical-pod-autoscaler/pkg/recommender): histograms in which a sample of a day
// ago weighs half as much as one of now, percentiles of them with a margin, and
// bounds that are wide while little is known. What may be set of that, and whether
// it is worth a change, is [Apply]'s to say.
//
// Times are those of the samples; nothing here reads a clock. CPU is in
// millicores and memory in bytes.
package vertical
