package main

import (
	"fmt"
	"sync"
)

// Many groups of many members, each a client of its own: the same as so many processes that consume.
func herd(o *options, e *events, stop, goOn <-chan struct{}) int {
	var left sync.WaitGroup
	for group := range o.groups {
		for member := range o.members {
			one := *o
			one.group = fmt.Sprintf("%s-%d", o.group, group)
			one.name = fmt.Sprintf("%s-%d-%d", o.name, group, member)
			left.Add(1)
			go func() {
				defer left.Done()
				consume(&one, e.of(one.name), stop, goOn)
			}()
		}
	}
	left.Wait()
	e.emit("done", fields{"received": 0}) // by itself
	return 0
}
