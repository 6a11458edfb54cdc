package main

import (
	"cmp"
	"math"
	"slices"
)

// percentile is the smallest value that at least p percent of the values do not exceed (nearest rank).
func percentile[T cmp.Ordered](values []T, p float64) T {
	if len(values) == 0 {
		panic("a percentile of nothing")
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// each reads one figure of several things.
func each[S, T any](list []S, figure func(S) T) []T {
	out := make([]T, 0, len(list))
	for _, one := range list {
		out = append(out, figure(one))
	}
	return out
}
