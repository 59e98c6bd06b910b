package dwssim

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// directive is one parsed #DW line.
type directive struct {
	text    string
	command string
	args    map[string]string
}

// errBlankDirective is a #DW line without a command. The real webhook does not refuse it: it
// panics on it, and the API server only sees the connection die.
var errBlankDirective = errors.New("blank directive")

// rule says which arguments a command takes and which driver then works in which states.
type rule struct {
	driverID    string
	watchStates []string
	args        map[string]argument
}

type argument struct {
	required bool
	// check refuses a value; nil takes any.
	check func(value string) error
}

// rules are the whole ruleset: the test driver's commands, one for each state, and what the
// public provider knows of a job's own storage.
var rules = func() map[string]rule {
	optional := argument{}
	duration := argument{check: checkDuration}
	env := argument{check: checkEnv}
	all := map[string]rule{
		"jobdw": {driverID: "nnf", watchStates: States, args: map[string]argument{
			"type":     {required: true, check: oneOf("xfs", "gfs2", "lustre", "raw")},
			"capacity": {required: true, check: matches(`^\d+([KMGTP]i?B)?$`)},
			"name":     {required: true, check: matches(`^[a-z][a-z0-9-]*$`)},
			"profile":  optional,
			"delay":    duration,
		}},
	}
	instance := argument{required: true, check: matches(`^[a-z][a-z0-9-]*$`)}
	all["create_persistent"] = rule{driverID: "nnf", watchStates: States, args: map[string]argument{
		"type": all["jobdw"].args["type"], "capacity": all["jobdw"].args["capacity"], "name": instance,
		"profile": optional, "delay": duration,
	}}
	all["destroy_persistent"] = rule{driverID: "nnf", watchStates: States, args: map[string]argument{
		"name": instance, "delay": duration,
	}}
	for command, state := range map[string]string{"copy_in": DataIn, "copy_out": DataOut} {
		all[command] = rule{driverID: "nnf", watchStates: []string{state}, args: map[string]argument{
			"source":      {required: true},
			"destination": {required: true},
			"profile":     optional,
			"delay":       duration,
		}}
	}
	for _, state := range States {
		all[state] = rule{driverID: "tester", watchStates: []string{state}, args: map[string]argument{
			"action":   {required: true, check: oneOf("complete", "wait", "error")},
			"message":  optional,
			"severity": {check: oneOf("Minor", "Major", "Fatal")},
			"delay":    duration,
			"env":      env,
		}}
	}
	return all
}()

// parseDirective splits a line as DWS does: at white space, key=value, no quotes.
func parseDirective(text string) (*directive, error) {
	words := strings.Fields(text)
	if len(words) == 0 || words[0] != "#DW" {
		return nil, fmt.Errorf("missing '#DW' prefix in directive '%s'", text)
	}
	if len(words) == 1 {
		return nil, errBlankDirective
	}
	parsed := &directive{text: text, command: words[1], args: map[string]string{}}
	for _, word := range words[2:] {
		key, value, _ := strings.Cut(word, "=")
		if _, repeated := parsed.args[key]; repeated {
			return nil, fmt.Errorf("repeated argument '%s'", key)
		}
		parsed.args[key] = value
	}
	return parsed, nil
}

// check judges a directive by the rule of its command.
func (d *directive) check() error {
	rule, known := rules[d.command]
	if !known {
		return fmt.Errorf("invalid directive '%s'", d.text)
	}
	for _, key := range sortedKeys(d.args) {
		argument, supported := rule.args[key]
		if !supported {
			return fmt.Errorf("unsupported argument '%s'", key)
		}
		value := d.args[key]
		if value == "" {
			return fmt.Errorf("argument '%s' requires value", key)
		}
		if argument.check == nil {
			continue
		}
		if err := argument.check(value); err != nil {
			return fmt.Errorf("argument '%s' has invalid value '%s': %w", key, value, err)
		}
	}
	for _, key := range sortedKeys(rule.args) {
		if _, given := d.args[key]; rule.args[key].required && !given {
			return fmt.Errorf("missing required argument '^%s$'", key)
		}
	}
	return nil
}

// checkDirectives judges all directives of a Workflow; the first bad one counts.
func checkDirectives(texts []string) ([]*directive, error) {
	var all []*directive
	for _, text := range texts {
		parsed, err := parseDirective(text)
		if err != nil {
			return nil, err
		}
		if err := parsed.check(); err != nil {
			return nil, err
		}
		all = append(all, parsed)
	}
	return all, nil
}

// delay is how long the driver takes for each of its states.
func (d *directive) delay() time.Duration {
	delay, _ := time.ParseDuration(d.args["delay"]) // checked at admission; absent is 0
	return delay
}

// userText is the message an error carries; a value cannot hold spaces, so underscores do.
func (d *directive) userText() string {
	return strings.ReplaceAll(d.args["message"], "_", " ")
}

// env is what the driver adds to status.env when state completes.
func (d *directive) env(w *Workflow, index int, state string) map[string]string {
	added := map[string]string{}
	if d.command == "jobdw" {
		if state == PreRun {
			added["DW_JOB_"+strings.ReplaceAll(d.args["name"], "-", "_")] = fmt.Sprintf("/mnt/nnf/%s-%d", w.UID, index)
		}
		return added
	}
	if pairs := d.args["env"]; pairs != "" {
		for _, pair := range strings.Split(pairs, ",") {
			key, value, _ := strings.Cut(pair, ":")
			added[key] = value
		}
	}
	return added
}

func checkDuration(value string) error {
	delay, err := time.ParseDuration(value)
	if err == nil && delay < 0 {
		return errors.New("it is negative")
	}
	return err
}

// checkEnv takes K:V,K2:V2; a value may hold colons, and be empty.
func checkEnv(value string) error {
	for _, pair := range strings.Split(value, ",") {
		if key, _, found := strings.Cut(pair, ":"); !found || !envName.MatchString(key) {
			return fmt.Errorf("'%s' is not NAME:VALUE", pair)
		}
	}
	return nil
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if slices.Contains(values, value) {
			return nil
		}
		return fmt.Errorf("it is none of %s", strings.Join(values, ", "))
	}
}

func matches(pattern string) func(string) error {
	compiled := regexp.MustCompile(pattern)
	return func(value string) error {
		if compiled.MatchString(value) {
			return nil
		}
		return fmt.Errorf("it does not match %s", pattern)
	}
}

// sortedKeys makes the refusal of a line with two faults always the same.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
