package bundle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Limit is what a rule lets the parameters of a bundle be.
type Limit struct {
	Most map[string]string // the most that they may be, by name
	// Images are patterns (MatchImage), one of which parameters of type image must match as
	// well as one of the bundle; nil: the bundle's are enough.
	Images []string
}

// checkLimits wants the values to be within the limits of one of the rules.
func (b *Bundle) checkLimits(rules []Limit, values map[string]any) error {
	var exceeded error
	for _, limit := range rules {
		err := b.checkLimit(limit, values)
		if err == nil {
			return nil
		}
		exceeded = cmp.Or(exceeded, err)
	}
	return exceeded
}

func (b *Bundle) checkLimit(limit Limit, values map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(limit.Most)) {
		p, value := b.Param(name), values[name]
		if p == nil || value == nil {
			continue
		}
		of := p.Type
		if of == Derived {
			of = Int
		}
		most, _, err := of.read(limit.Most[name])
		if !of.ordered() || err != nil {
			return fmt.Errorf("limits of [[bundles.allow]] in slurmk8s.toml: %s=%s is no limit for a parameter of type %s", name, limit.Most[name], p.Type)
		}
		if order, _, err := of.read(textOf(value)); err != nil || order.Cmp(most) > 0 {
			return fmt.Errorf("%s=%s: you may have at most %s (limits of [[bundles.allow]])", name, textOf(value), limit.Most[name])
		}
	}
	for _, p := range b.Params {
		image, given := values[p.Name].(string)
		if p.Type != Image || !given || limit.Images == nil {
			continue
		}
		if !matchesImage(limit.Images, image) {
			return fmt.Errorf("%s=%s: you may have %s (images of [[bundles.allow]])", p.Name, image, strings.Join(limit.Images, ", "))
		}
	}
	return nil
}
