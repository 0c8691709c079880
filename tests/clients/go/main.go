// The driver of franz-go: produce, consume (one member, or a herd of them) and admin, one event for each outcome.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type options struct {
	bootstrap, topic, name string
	extra                  properties

	records, keys, size          int
	rate                         float64
	acks, idempotent, compresses string
	partition                    int
	logSends                     bool
	transactionalID              string

	group, assign, from, commit, isolation string
	hold, groups, members                  int

	many   int
	slower float64
}

func main() {
	if len(os.Args) < 2 || !slices.Contains([]string{"produce", "consume", "herd", "admin"}, os.Args[1]) {
		usage(fmt.Errorf("produce, consume, herd or admin"))
	}
	o := parse(os.Args[1], os.Args[2:])
	e := newEvents(o.name)
	code := 0
	switch os.Args[1] {
	case "produce":
		stop, _ := wishes()
		if o.many > 0 {
			code = produceMany(o, e, stop)
		} else {
			code = produce(o, e, stop)
		}
	case "consume":
		stop, goOn := wishes()
		code = consume(o, e, stop, goOn)
	case "herd":
		stop, goOn := wishes()
		code = herd(o, e, stop, goOn)
	default:
		code = administer(o, e)
	}
	e.flush()
	os.Exit(code)
}

func usage(err error) {
	fmt.Fprintln(os.Stderr, "franz-go:", err)
	os.Exit(2)
}

func parse(command string, words []string) *options {
	o := &options{extra: properties{}}
	set := flag.NewFlagSet(command, flag.ExitOnError)
	set.StringVar(&o.bootstrap, "bootstrap", "", "")
	set.StringVar(&o.topic, "topic", "", "")
	set.StringVar(&o.name, "name", command, "")
	set.Var(o.extra, "X", "key=value")
	switch command {
	case "admin":
		set.StringVar(&o.group, "group", "", "")
	case "produce":
		set.IntVar(&o.records, "records", 0, "")
		set.Float64Var(&o.rate, "rate", 0, "records a second, 0: as fast as it goes")
		set.IntVar(&o.keys, "keys", 16, "")
		set.StringVar(&o.acks, "acks", "", "all, 1 or 0")
		set.StringVar(&o.idempotent, "idempotent", "", "true or false")
		set.StringVar(&o.compresses, "compression", "", "none, gzip, snappy, lz4 or zstd")
		set.IntVar(&o.size, "size", 0, "")
		set.IntVar(&o.partition, "partition", -1, "")
		set.BoolVar(&o.logSends, "log-sends", false, "")
		set.StringVar(&o.transactionalID, "transactional-id", "", "")
		set.IntVar(&o.many, "many", 0, "so many producers, each of a topic, an id and a name of its own")
		set.Float64Var(&o.slower, "slower", 5, "how much slower every second of them is")
	default:
		set.StringVar(&o.group, "group", "", "")
		set.StringVar(&o.assign, "assign", "", "")
		set.StringVar(&o.from, "from", "earliest", "")
		set.StringVar(&o.commit, "commit", "auto", "auto, sync, async or none")
		set.StringVar(&o.isolation, "isolation", "", "")
		set.IntVar(&o.groups, "groups", 1, "of a herd")
		set.IntVar(&o.members, "members", 1, "of each of its groups")
		set.IntVar(&o.many, "many", 0, "so many topics of one partition each, as partitions of one")
		set.IntVar(&o.hold, "hold", 0, "after so many records it stands still, until a line `go`")
	}
	set.Parse(words)
	return o
}

// franz-go has options and no properties: -X takes those that a suite needs, under their Kafka names.
type properties map[string]string

func (p properties) String() string { return "" }

func (p properties) Set(pair string) error {
	key, value, ok := strings.Cut(pair, "=")
	if !ok {
		return fmt.Errorf("-X wants key=value")
	}
	p[key] = value
	return nil
}

func (o *options) common(e *events) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(o.bootstrap, ",")...),
		kgo.ClientID(o.name),
		kgo.WithLogger(logger{e}),
	}
	for key, value := range o.extra {
		opt, err := property(key, value)
		if err != nil {
			usage(err)
		}
		opts = append(opts, opt)
	}
	return opts
}

func property(key, value string) (kgo.Opt, error) {
	millis := func() time.Duration {
		number, err := strconv.Atoi(value)
		if err != nil {
			usage(fmt.Errorf("-X %s: %v", key, err))
		}
		return time.Duration(number) * time.Millisecond
	}
	switch key {
	case "linger.ms":
		return kgo.ProducerLinger(millis()), nil
	case "delivery.timeout.ms":
		return kgo.RecordDeliveryTimeout(millis()), nil
	case "metadata.max.age.ms":
		return kgo.MetadataMaxAge(millis()), nil
	case "session.timeout.ms":
		return kgo.SessionTimeout(millis()), nil
	case "heartbeat.interval.ms":
		return kgo.HeartbeatInterval(millis()), nil
	case "auto.commit.interval.ms":
		return kgo.AutoCommitInterval(millis()), nil
	case "fetch.max.wait.ms":
		return kgo.FetchMaxWait(millis()), nil
	case "group.instance.id":
		return kgo.InstanceID(value), nil
	case "allow.auto.create.topics":
		return kgo.AllowAutoTopicCreation(), nil
	case "partition.assignment.strategy":
		for _, balancer := range []kgo.GroupBalancer{
			kgo.RangeBalancer(), kgo.RoundRobinBalancer(), kgo.StickyBalancer(), kgo.CooperativeStickyBalancer(),
		} {
			if balancer.ProtocolName() == value {
				return kgo.Balancers(balancer), nil
			}
		}
	}
	return nil, fmt.Errorf("-X %s=%s: unknown here", key, value)
}
