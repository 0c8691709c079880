package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// Many producers: of topic T-0 and so on, each a client of its own.
func produceMany(o *options, e *events, stop <-chan struct{}) int {
	var left sync.WaitGroup
	for number := range o.many {
		one := *o
		one.topic = fmt.Sprintf("%s-%d", o.topic, number)
		one.name = fmt.Sprintf("%s-%d", o.name, number)
		if o.transactionalID != "" {
			one.transactionalID = fmt.Sprintf("%s-%d", o.transactionalID, number)
		}
		if number%2 == 1 {
			one.rate /= o.slower
		}
		left.Add(1)
		go func() {
			defer left.Done()
			produce(&one, e.of(one.name), stop)
		}()
	}
	left.Wait()
	e.emit("done", fields{"sent": 0, "acked": 0, "failed": 0}) // by itself
	return 0
}

// What a consumer reads: its topic, or many.
func (o *options) topics() []string {
	if o.many == 0 {
		return []string{o.topic}
	}
	all := []string{}
	for number := range o.many {
		all = append(all, fmt.Sprintf("%s-%d", o.topic, number))
	}
	return all
}

// The number of a partition; of many topics, that of the topic.
func (o *options) part(topic string, part int32) int32 {
	if o.many == 0 {
		return part
	}
	number, _ := strconv.Atoi(topic[strings.LastIndexByte(topic, '-')+1:])
	return int32(number)
}

func (o *options) parts(parts map[string][]int32) []int32 {
	all := []int32{}
	for topic, some := range parts {
		for _, part := range some {
			all = append(all, o.part(topic, part))
		}
	}
	slices.Sort(all)
	return all
}
