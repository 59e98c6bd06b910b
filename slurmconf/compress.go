package slurmconf

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Hostlist writes host names as one hostlist, sorted and each once: the opposite of
// ExpandHostlist. Only numbers at the end of names are put into brackets: "c[01-03,05]".
func Hostlist(hosts []string) string {
	type host struct {
		prefix        string
		width, number int // width 0: no number
	}
	parsed := make([]host, len(hosts))
	for i, name := range hosts {
		prefix := strings.TrimRight(name, "0123456789")
		digits := name[len(prefix):]
		number, err := strconv.Atoi(digits)
		if err != nil || len(digits) > 9 {
			parsed[i] = host{prefix: name}
			continue
		}
		parsed[i] = host{prefix, len(digits), number}
	}
	slices.SortFunc(parsed, func(a, b host) int {
		return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.width, b.width), cmp.Compare(a.number, b.number))
	})
	parsed = slices.Compact(parsed)
	var items []string
	for i := 0; i < len(parsed); {
		first := parsed[i]
		if first.width == 0 {
			items = append(items, first.prefix)
			i++
			continue
		}
		var ranges []string
		count := 0
		for i < len(parsed) && parsed[i].prefix == first.prefix && parsed[i].width == first.width {
			from, last := i, i
			for last+1 < len(parsed) && parsed[last+1] == (host{first.prefix, first.width, parsed[last].number + 1}) {
				last++
			}
			text := fmt.Sprintf("%0*d", first.width, parsed[from].number)
			if last > from {
				text += fmt.Sprintf("-%0*d", first.width, parsed[last].number)
			}
			ranges = append(ranges, text)
			count += last - from + 1
			i = last + 1
		}
		list := strings.Join(ranges, ",")
		if count > 1 {
			list = "[" + list + "]"
		}
		items = append(items, first.prefix+list)
	}
	return strings.Join(items, ",")
}
