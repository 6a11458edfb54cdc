package taskdb_test

import "sync"

// outcome is what one of several parallel calls returned.
type outcome[T any] struct {
	value T
	err   error
}

// inParallel starts n calls at the same moment and returns their outcomes in the order of their numbers.
func inParallel[T any](n int, call func(i int) (T, error)) []outcome[T] {
	results := make([]outcome[T], n)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			<-start
			v, err := call(i)
			results[i] = outcome[T]{v, err}
		})
	}
	close(start)
	group.Wait()
	return results
}
