package cli

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const scaledCompose = `name: shop
services:
  db: {image: app}
  web:
    image: app
    deploy: {resources: {reservations: {cpus: "0.1"}}}
    x-berth:
      autoscale:
        max: 4
        interval: 5s
        metrics: [{cpu: {utilization: 70}}]
        behavior: {scaleDown: {stabilizationWindow: 15s}}
`

// loadTrace is two minutes of a load that rises and falls, in millicores.
func loadTrace() string {
	var b strings.Builder
	b.WriteString("time,cpu\n")
	for i, cpu := range []int{40, 40, 60, 120, 200, 260, 240, 240, 100, 40, 20, 20, 20} {
		fmt.Fprintf(&b, "%s,%d\n", noon().Add(time.Duration(i)*10*time.Second).Format(time.RFC3339), cpu)
	}
	return b.String()
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// offlineBench is a command line that may ask neither an engine nor a daemon.
func offlineBench(t *testing.T, compose string) *bench {
	t.Helper()
	b := newBench(t, compose)
	b.offline = true
	return b
}

func TestAutoscaleSimulateText(t *testing.T) {
	for name, locale := range map[string]string{"autoscale-simulate.txt": "C.UTF-8", "autoscale-simulate-ascii.txt": "C"} {
		b := offlineBench(t, scaledCompose)
		b.environ = append(b.environ, "LANG="+locale)
		write(t, b.dir, "usage.csv", loadTrace())
		if code := b.run("autoscale", "simulate", "--trace", "usage.csv", "--svg", "out.svg"); code != 0 {
			t.Fatalf("exit code %d: %s", code, b.err.String())
		}
		golden(t, name, b.out.String())
		svg, err := os.ReadFile(filepath.Join(b.dir, "out.svg"))
		if err != nil {
			t.Fatal(err)
		}
		if text := svgTexts(t, string(svg)); !strings.Contains(text, "web: load and replicas\n") || !strings.Contains(text, "12:02:00\n") {
			t.Errorf("the picture says:\n%s", text)
		}
	}
}

// svgTexts are the texts of a picture.
func svgTexts(t *testing.T, svg string) string {
	t.Helper()
	var texts strings.Builder
	for dec := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return texts.String()
		} else if err != nil {
			t.Fatal(err)
		}
		if data, ok := token.(xml.CharData); ok {
			texts.Write(data)
			texts.WriteByte('\n')
		}
	}
}

func TestAutoscaleSimulateJSON(t *testing.T) {
	run := func(args ...string) scalingRun {
		b := offlineBench(t, scaledCompose)
		write(t, b.dir, "usage.csv", loadTrace())
		if code := b.run(append([]string{"autoscale", "simulate", "--trace", "usage.csv", "--format", "json"}, args...)...); code != 0 {
			t.Fatalf("exit code %d: %s", code, b.err.String())
		}
		var out scalingRun
		if err := json.Unmarshal([]byte(b.out.String()), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	at, late := run("--delay", "0s", "web"), run("--delay", "30s")
	if at.Service != "web" || at.Summary.Most != 4 || at.Summary.Span != 2*time.Minute || len(at.Steps) != at.Summary.Decisions {
		t.Errorf("got %+v", at.Summary)
	}
	if late.Summary.Over <= at.Summary.Over {
		t.Errorf("with a delay it is over its target for %s, without for %s", late.Summary.Over, at.Summary.Over)
	}
	if at.Without != nil {
		t.Errorf("without predict there is %+v", at.Without)
	}
}

// TestAutoscaleSimulatePredicts: on the third of equal days predict has replicas
// ready before they are needed.
func TestAutoscaleSimulatePredicts(t *testing.T) {
	b := offlineBench(t, strings.NewReplacer("interval: 5s", "interval: 5m", "behavior: {scaleDown: {stabilizationWindow: 15s}}", "predict: {period: 2h}").Replace(scaledCompose))
	var trace strings.Builder
	trace.WriteString("time,cpu\n")
	for i := range 6 * 24 { // five minutes each, of two hours
		cpu := 40
		if i%24 >= 12 {
			cpu = 240
		}
		fmt.Fprintf(&trace, "%d,%d\n", i*300, cpu)
	}
	write(t, b.dir, "usage.csv", trace.String())
	if code := b.run("autoscale", "simulate", "--trace", "usage.csv", "--format", "json"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var out scalingRun
	if err := json.Unmarshal([]byte(b.out.String()), &out); err != nil {
		t.Fatal(err)
	}
	if out.Without == nil || out.Summary.Over >= out.Without.Over || out.Without.Over == 0 {
		t.Fatalf("with predict %+v, without %+v", out.Summary, out.Without)
	}
	text := offlineBench(t, "")
	text.dir = b.dir
	if code := text.run("autoscale", "simulate", "--trace", "usage.csv"); code != 0 {
		t.Fatalf("exit code %d: %s", code, text.err.String())
	}
	text.wantInOut("SUMMARY           WITH PREDICT")
	text.wantInOut("replicas without\n")
	text.wantInOut("RaisedByForecast")
}

func TestAutoscaleSimulateFollowsSchedules(t *testing.T) {
	b := offlineBench(t, scaledCompose+"        schedules: [{cron: '0 8 * * *', timeZone: UTC, min: 1}, {cron: '1 12 * * *', timeZone: UTC, min: 3}]\n")
	write(t, b.dir, "usage.csv", "time,cpu\n2026-03-01T12:00:00Z,10\n2026-03-01T12:02:00Z,10\n")
	if code := b.run("autoscale", "simulate", "--trace", "usage.csv"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	b.wantInOut("TIME       REPLICAS   METRIC    REASONS\n12:01:00   1 to 3     -         TooFewReplicas\n\n")
}

func TestAutoscaleReplaySaysWhatDiffers(t *testing.T) {
	rec := recordedWeb()
	rec.Steps[2].Decision.Desired++
	good := serviceRecording{"web", recordedWeb()}
	data, err := json.Marshal(runRecording{Stack: "shop", Services: []serviceRecording{{"bad", rec}, good}})
	if err != nil {
		t.Fatal(err)
	}
	b := offlineBench(t, "")
	write(t, b.dir, "run.json", string(data))
	if code := b.run("autoscale", "simulate", "--recording", "run.json", "--format", "json"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantInErr(`berth: autoscale simulate: service bad: step 2: recorded "1 to 4: cpu is at 190 %`)
	var got []replay
	if err := json.Unmarshal([]byte(b.out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Difference == "" || got[1].Difference != "" || got[1].Decisions != 7 {
		t.Errorf("got %+v", got)
	}
	one := offlineBench(t, "")
	one.dir = b.dir
	if code := one.run("autoscale", "simulate", "--recording", "run.json", "--svg", "run.svg", "web"); code != 0 {
		t.Errorf("exit code %d: %s", code, one.err.String())
	}
	one.wantInOut("web: 7 decisions, all the same\n")
	if _, err := os.Stat(filepath.Join(b.dir, "run.svg")); err != nil {
		t.Error(err)
	}
}

func TestAutoscaleSimulateSaysWhatIsWrong(t *testing.T) {
	two := scaledCompose + "  api: {image: app, x-berth: {autoscale: {max: 4, metrics: [{cpu: {averageValue: 1}}]}}}\n"
	fixed := "name: shop\nservices:\n  web: {image: app, x-berth: {autoscale: {max: 2, schedules: [{cron: '@daily', min: 2}]}}}\n"
	for _, c := range []struct {
		compose, args, want string
	}{
		{scaledCompose, "", "at least one of the flags in the group [trace recording] is required"},
		{scaledCompose, "--trace usage.csv --recording usage.csv", "if any flags in the group [trace recording] are set none of the others can be"},
		{scaledCompose, "--trace none.csv", "none.csv: no such file or directory"},
		{scaledCompose, "--trace usage.csv --format yaml", "autoscale simulate: --format \"yaml\" is unknown; use text or json"},
		{scaledCompose, "--trace usage.csv --delay -1s", "autoscale simulate: --delay -1s is negative; give 0s or more"},
		{scaledCompose, "--trace usage.csv db", "autoscale simulate: service db has no x-berth.autoscale; those that have are web"},
		{scaledCompose, "--trace usage.csv shop", "no such service: shop (the file has db, web)"},
		{scaledCompose, "--trace bad.csv", "bad.csv: line 2: cpu: \"much\": give a number that is not below 0"},
		{scaledCompose, "--trace other.csv", "autoscale simulate: the trace has no column \"cpu\", which the policy scales by"},
		{scaledCompose, "--trace usage.csv --svg no/such/out.svg", "no/such/out.svg: no such file or directory"},
		{two, "--trace usage.csv", "autoscale simulate: name one of the services that are autoscaled: api, web"},
		{fixed, "--trace usage.csv", "autoscale simulate: service web is scaled by nothing that a trace could have"},
		{"name: shop\nservices: {web: {image: app}}\n", "--trace usage.csv", "autoscale simulate: no service of the file has x-berth.autoscale"},
		{"", "--recording usage.csv", "usage.csv is not what berth autoscale record writes: "},
		{"", "--recording empty.json", "empty.json has no decisions"},
		{"", "--recording two.json --svg out.svg", "autoscale simulate: --svg draws one service; name it"},
		{"", "--recording two.json db", "two.json has no decisions of service db"},
	} {
		b := offlineBench(t, c.compose)
		write(t, b.dir, "usage.csv", loadTrace())
		write(t, b.dir, "bad.csv", "time,cpu\n0,much\n")
		write(t, b.dir, "other.csv", "time,queue\n0,1\n1,1\n")
		write(t, b.dir, "empty.json", "{}")
		data, err := json.Marshal(runRecording{Services: []serviceRecording{{"a", recordedWeb()}, {"b", recordedWeb()}}})
		if err != nil {
			t.Fatal(err)
		}
		write(t, b.dir, "two.json", string(data))
		if code := b.run(append([]string{"autoscale", "simulate"}, strings.Fields(c.args)...)...); code != 1 {
			t.Errorf("%s: exit code %d, want 1:\n%s", c.args, code, b.out.String())
		}
		b.wantInErr(c.want)
	}
}

// alsoByConcurrency is the same service, scaled by its open connections too.
func alsoByConcurrency() string {
	return strings.Replace(scaledCompose, "        max: 4\n", "        max: 4\n        concurrency: {target: 5}\n", 1) + "    ports: ['80']\n"
}

func TestAutoscaleSimulateByConcurrency(t *testing.T) {
	for name, c := range map[string]struct{ compose, trace string }{
		"metrics too": {alsoByConcurrency(), "time,cpu,concurrency\n0,40,2\n30,40,18\n60,40,2\n300,40,0\n"},
		"it alone": {
			strings.Replace(alsoByConcurrency(), "        metrics: [{cpu: {utilization: 70}}]\n", "", 1),
			"time,concurrency\n0,2\n30,18\n60,2\n300,0\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulated := func(files map[string]string, args ...string) string {
				b := offlineBench(t, c.compose)
				for file, text := range files {
					write(t, b.dir, file, text)
				}
				if code := b.run(append([]string{"autoscale", "simulate"}, args...)...); code != 0 {
					t.Fatalf("exit code %d: %s", code, b.err.String())
				}
				if text := b.err.String(); text != "" {
					t.Errorf("it warns: %s", text)
				}
				return b.out.String()
			}
			trace := map[string]string{"usage.csv": c.trace}
			text := simulated(trace, "--trace", "usage.csv", "--delay", "5s")
			if !strings.Contains(text, "3 to 4     concurrency 15.3/5") || !strings.Contains(text, "replicas          1 to 4") || !strings.Contains(text, "Panicking") {
				t.Errorf("it does not tell of a panic that brings 4 replicas:\n%s", text)
			}
			var run scalingRun
			if err := json.Unmarshal([]byte(simulated(trace, "--trace", "usage.csv", "--format", "json")), &run); err != nil {
				t.Fatal(err)
			}
			if len(run.Looks) != 300 || len(run.Steps)+len(run.Looks) != run.Summary.Decisions {
				t.Errorf("%d looks and %d steps in 300 s: %+v", len(run.Looks), len(run.Steps), run.Summary)
			}
			data, err := json.Marshal(runRecording{Stack: "shop", Services: []serviceRecording{{Service: "web", Recording: run.Recording}}})
			if err != nil {
				t.Fatal(err)
			}
			again := simulated(map[string]string{"run.json": string(data)}, "--recording", "run.json")
			if want := fmt.Sprintf("web: %d decisions, all the same\n", run.Summary.Decisions); !strings.HasPrefix(again, want) {
				t.Errorf("made again:\n%s", again)
			}
		})
	}
}

func TestAutoscaleSimulateMissesConcurrency(t *testing.T) {
	b := offlineBench(t, strings.Replace(alsoByConcurrency(), "        metrics: [{cpu: {utilization: 70}}]\n", "", 1))
	write(t, b.dir, "usage.csv", loadTrace())
	if code := b.run("autoscale", "simulate", "--trace", "usage.csv"); code != 1 {
		t.Errorf("exit code %d, want 1:\n%s", code, b.out.String())
	}
	b.wantInErr(`the trace has no column "concurrency", by which alone service web is scaled`)
}

func TestAutoscaleSimulateLeavesConcurrencyOut(t *testing.T) {
	b := offlineBench(t, alsoByConcurrency())
	write(t, b.dir, "usage.csv", loadTrace())
	if code := b.run("autoscale", "simulate", "--trace", "usage.csv"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	b.wantInErr(`warning: concurrency of service web is left out: the trace has no column "concurrency"`)
}

func TestLocaleDecidesHowIsDrawn(t *testing.T) {
	for environ, want := range map[string]bool{
		"": false, "LANG=C": false, "LANG=de_DE.UTF-8": true, "LANG=en_US.utf8": true, "LANG=C.UTF-8 LC_ALL=C": false, "LANG=C LC_CTYPE=C.UTF-8": true,
	} {
		a := &app{env: &Env{Environ: strings.Fields(environ)}}
		if got := a.isUTF8(); got != want {
			t.Errorf("%s: %t, want %t", environ, got, want)
		}
	}
}
