"""Which functions a template deploys, and what is said of one that can't be read."""

import contextlib
import json
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from perdure.model.execution import DurableConfig
from perdure.model.function import Host
from perdure.sam.functions import TemplateFunction
from perdure.sam.template import LeftOut, Template, TemplateAlias, read_template
from perdure.sam.trouble import TemplateError

HEAD = "AWSTemplateFormatVersion: '2010-09-09'\nTransform: AWS::Serverless-2016-10-31\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    return tmp_path


def read(folder: Path, text: str, **overrides: str) -> Template:
    path = folder / "template.yaml"
    path.write_text(textwrap.dedent(text), "utf-8")
    return read_template(path, overrides=overrides)


def one(folder: Path, properties: str, more: str = "", **overrides: str) -> TemplateFunction:
    """The function of a template with these properties, and whatever else stands in it."""
    text = (
        f"{HEAD}{textwrap.dedent(more)}\nResources:\n  Order:\n    Type: AWS::Serverless::Function\n    Properties:\n"
        "      Handler: app.handler\n      Runtime: python3.13\n      CodeUri: src\n"
    )
    (found, *_) = read(folder, text + textwrap.indent(textwrap.dedent(properties), " " * 6), **overrides).functions
    return found


def variable(folder: Path, value: str, more: str = "", **overrides: str) -> str:
    """What a value of a template comes to."""
    return one(folder, f"Environment: {{Variables: {{X: {value}}}}}", more, **overrides).version.environment["X"]


def refused(folder: Path, text: str, **overrides: str) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        read(folder, text, **overrides)
    return caught.value


def test_a_function_has_what_its_properties_say(folder: Path) -> None:
    found = one(
        folder,
        """
        FunctionName: order
        Description: takes orders
        Timeout: 30
        MemorySize: "256"
        Environment:
          Variables: {STAGE: dev, PORT: 012, IS_ON: true}
        DurableConfig: {ExecutionTimeout: 3600, RetentionPeriodInDays: 7}
        AutoPublishAlias: live
        Role: arn:aws:iam::000000000000:role/order
        Policies: [AWSLambdaBasicExecutionRole]
        Tags: {team: shop}
        Architectures: [arm64]
        ReservedConcurrentExecutions: 5
        LoggingConfig: {LogFormat: JSON}
        """,
    )
    version = found.version
    assert (found.logical_id, found.name, found.code) == ("Order", "order", folder / "src")
    assert (version.host, version.runtime, version.handler) == (Host.MANAGED, "python3.13", "app.handler")
    assert (version.timeout_s, version.memory_mb, version.description) == (30, 256, "takes orders")
    assert version.environment == {"STAGE": "dev", "PORT": "012", "IS_ON": "true"}
    assert version.durable == DurableConfig(3600, 7)
    assert (found.alias, found.is_published, found.concurrency) == ("live", True, 5)
    assert (version.role, found.policies) == ("arn:aws:iam::000000000000:role/order", '["AWSLambdaBasicExecutionRole"]')
    assert (found.tags, version.log_format) == ({"team": "shop"}, "JSON")
    assert version.more == {"Architectures": ["arm64"], "LoggingConfig": {"LogFormat": "JSON"}}


def test_without_more_a_function_has_lambdas_defaults_and_its_logical_id(folder: Path) -> None:
    found = one(folder, "")
    assert (found.name, found.version.timeout_s, found.version.memory_mb) == ("Order", 3, 128)
    assert (found.version.durable, found.alias, found.is_published) == (None, None, False)
    assert one(folder, "DurableConfig: {ExecutionTimeout: 60}").version.durable == DurableConfig(60, 14)


def test_globals_are_merged_lists_added_and_values_replaced(folder: Path) -> None:
    text = """
        Globals:
          Function:
            Runtime: python3.12
            Timeout: 30
            Architectures: [x86_64]
            Environment: {Variables: {A: global, B: global}}
            DurableConfig: {ExecutionTimeout: 10, RetentionPeriodInDays: 3}
        Resources:
          One:
            Type: AWS::Serverless::Function
            Properties:
              Handler: app.handler
              CodeUri: src
              Timeout: 5
              Architectures: [arm64]
              Environment: {Variables: {B: own}}
              DurableConfig: {ExecutionTimeout: 20}
          Two:
            Type: AWS::Lambda::Function
            Properties: {Handler: app.handler, Code: src, Runtime: python3.13}
        """
    first, second = (each.version for each in read(folder, text).functions)
    assert (first.runtime, first.timeout_s) == ("python3.12", 5)
    assert first.environment == {"A": "global", "B": "own"}
    assert first.more["Architectures"] == ["x86_64", "arm64"]
    assert first.durable == DurableConfig(20, 3)
    assert (second.runtime, second.timeout_s, second.durable) == ("python3.13", 3, None)


PARAMETERS = """
    Parameters:
      Stage: {Type: String, Default: dev, AllowedValues: [dev, prod]}
      Zones: {Type: CommaDelimitedList, Default: "a, b,c"}
      Size: {Type: Number, Default: 12}
    Conditions:
      IsProd: !Equals [!Ref Stage, prod]
      IsLocal: !Not [!Condition IsProd]
      Both: !And [!Condition IsProd, !Condition IsLocal]
      Either: !Or [!Condition IsProd, !Condition IsLocal]
    Mappings:
      Sizes: {dev: {big: 1}, prod: {big: 100}}
    """


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("!Ref Stage", "dev"),
        ("!Ref Order", "Order"),
        ("!Ref AWS::Region", "us-east-1"),
        ("!Ref AWS::AccountId", "000000000000"),
        ("!Ref AWS::Partition", "aws"),
        ("!Ref AWS::StackName", "local"),
        ("!GetAtt Order.Arn", "arn:aws:lambda:us-east-1:000000000000:function:Order"),
        ("{'Fn::GetAtt': [Order, Arn]}", "arn:aws:lambda:us-east-1:000000000000:function:Order"),
        ("{'Fn::GetAtt': Order.Arn}", "arn:aws:lambda:us-east-1:000000000000:function:Order"),
        ("!Sub '${Stage}-${AWS::Region}-${!Stage}'", "dev-us-east-1-${Stage}"),
        ("!Sub '${Order.Arn}:live'", "arn:aws:lambda:us-east-1:000000000000:function:Order:live"),
        ("!Sub ['${a}/${Stage}', {a: !Select [1, !Ref Zones]}]", "b/dev"),
        ("!Join ['-', [x, !Ref Stage, 7]]", "x-dev-7"),
        ("!Join ['', !Ref Zones]", "abc"),
        ("!Select [0, !Split ['.', a.b]]", "a"),
        ('!Select ["2", [a, b, c]]', "c"),
        ("!FindInMap [Sizes, !Ref Stage, big]", "1"),
        ("!If [IsProd, yes, !Ref Size]", "12"),
        ("!If [Either, 1, 2]", "1"),
        ("!If [Both, 1, 2]", "2"),
        ("!Base64 abc", "YWJj"),
        ("{'Fn::Base64': !Sub '${Stage}'}", "ZGV2"),
    ],
)
def test_functions_of_cloudformation_are_carried_out(folder: Path, value: str, found: str) -> None:
    assert variable(folder, value, PARAMETERS) == found


def test_overrides_take_the_place_of_defaults(folder: Path) -> None:
    value = "!If [IsProd, !Sub '${Stage}:${Size}', no]"
    assert variable(folder, value, PARAMETERS, Stage="prod", Size="7") == "prod:7"


def test_no_value_is_as_if_the_property_were_not_there(folder: Path) -> None:
    found = one(folder, "DurableConfig: !If [IsProd, {ExecutionTimeout: 60}, !Ref AWS::NoValue]", PARAMETERS)
    assert found.version.durable is None


def test_versions_and_aliases_are_published_under_their_names(folder: Path) -> None:
    template = read(
        folder,
        """
        Resources:
          Order:
            Type: AWS::Lambda::Function
            Properties:
              FunctionName: order
              Handler: app.handler
              Runtime: nodejs22.x
              Code: src
              Environment: {Variables: {ME: !Ref Live, VERSION: !Ref First}}
              Tags: [{Key: team, Value: shop}]
          First:
            Type: AWS::Lambda::Version
            Properties: {FunctionName: !Ref Order}
          Live:
            Type: AWS::Lambda::Alias
            Properties:
              FunctionName: !GetAtt Order.Arn
              FunctionVersion: !GetAtt First.Version
              Name: live
          Old:
            Type: AWS::Lambda::Alias
            Properties:
              FunctionName: order
              FunctionVersion: 3
              Name: old
              RoutingConfig: {AdditionalVersionWeights: [{FunctionVersion: "2", FunctionWeight: 0.25}]}
        """,
    )
    (order,) = template.functions
    arn = "arn:aws:lambda:us-east-1:000000000000:function:order"
    assert order.is_published
    assert order.tags == {"team": "shop"}
    assert order.version.environment == {"ME": f"{arn}:live", "VERSION": f"{arn}:$LATEST"}
    assert template.aliases == (
        TemplateAlias(function="order", name="live"),
        TemplateAlias(function="order", name="old", version="3", weights={"2": 0.25}),
    )


def test_an_auto_published_alias_can_be_referred_to(folder: Path) -> None:
    found = one(folder, "AutoPublishAlias: live\nEnvironment: {Variables: {ME: !Ref Order.Alias}}")
    assert found.version.environment["ME"] == "arn:aws:lambda:us-east-1:000000000000:function:Order:live"


def test_code_may_stand_in_the_template(folder: Path) -> None:
    text = """
        Resources:
          One:
            Type: AWS::Serverless::Function
            Properties: {Handler: index.handler, Runtime: python3.13, InlineCode: "def handler(e, c): return 1"}
          Two:
            Type: AWS::Lambda::Function
            Properties: {Handler: index.handler, Runtime: python3.13, Code: {ZipFile: "def handler(e, c): return 2"}}
        """
    assert [each.inline for each in read(folder, text).functions] == [
        "def handler(e, c): return 1",
        "def handler(e, c): return 2",
    ]


def test_what_is_not_run_here_is_listed_as_left_out(folder: Path) -> None:
    template = read(
        folder,
        """
        Conditions:
          IsProd: !Equals [!Ref AWS::StackName, prod]
        Resources:
          Table: {Type: "AWS::DynamoDB::Table"}
          Image: {Type: "AWS::Serverless::Function", Properties: {PackageType: Image, ImageUri: x}}
          InS3: {Type: "AWS::Lambda::Function", Properties: {Code: {S3Bucket: b, S3Key: k}}}
          Prod: {Type: "AWS::Serverless::Function", Condition: IsProd, Properties: {Handler: !ImportValue nobody}}
        """,
    )
    assert template.functions == ()
    assert template.left_out == (
        LeftOut("Table", "AWS::DynamoDB::Table"),
        LeftOut("Image", "AWS::Serverless::Function", "it is a container image, and those are not run here"),
        LeftOut("InS3", "AWS::Lambda::Function", "its Code is in S3; name a folder beside the template"),
        LeftOut("Prod", "AWS::Serverless::Function", "its condition 'IsProd' is false"),
    )


def test_notes_say_what_has_no_meaning_here(folder: Path) -> None:
    template = read(
        folder,
        """
        Resources:
          Table: {Type: AWS::DynamoDB::Table}
          Order:
            Type: AWS::Serverless::Function
            Metadata: {BuildMethod: makefile}
            Properties:
              Handler: app.handler
              Runtime: python3.13
              CodeUri: src
              Events: {Daily: {Type: Schedule, Properties: {Schedule: rate(1 day)}}}
              Environment: {Variables: {TABLE: !Ref Table, ARN: !GetAtt Table.Arn}}
        """,
    )
    assert template.notes == (
        "Order: Events has no meaning here",
        "Order: nothing is built here; `sam build` follows its BuildMethod",
        "!Ref Table: there is no such resource here; its own name stands in for it",
        "!GetAtt Table.Arn: there is no such resource here; its own name stands in for it",
    )
    assert template.functions[0].version.environment == {"TABLE": "Table", "ARN": "Table.Arn"}


P = "Resources.Order.Properties"


@pytest.mark.parametrize(
    ("properties", "line", "said"),
    [
        ("Timeout: soon", 11, f"{P}.Timeout must be a whole number of seconds from 1 to 5400, not 'soon'"),
        ("Timeout: true", 11, "seconds from 1 to 5400, not 'true'"),
        ("MemorySize: 64", 11, f"{P}.MemorySize must be a whole number of megabytes from 128 to 32768, not '64'"),
        ("FunctionName: 'a b'", 11, f"{P}.FunctionName must be 1 to 64 of the characters"),
        ("FunctionName: [a]", 11, f"{P}.FunctionName must be a text, not a list"),
        ("DurableConfig: {}", 11, f"{P}.DurableConfig has no ExecutionTimeout"),
        ("DurableConfig: 5", 11, f"{P}.DurableConfig must be a mapping, not '5'"),
        (
            "DurableConfig: {ExecutionTimeout: 0}",
            11,
            "ExecutionTimeout must be a whole number of seconds from 1 to 31622400",
        ),
        ("DurableConfig: {ExecutionTimeout: 1, Retention: 1}", 11, f"{P}.DurableConfig has 'Retention'"),
        ("Environment: {STAGE: dev}", 11, f"{P}.Environment has 'STAGE'"),
        ("Environment:\n  Variables:\n    A: [1]", 13, f"{P}.Environment.Variables.A must be a text, not a list"),
        ("Environment: {Variables: {A: !Ref Nobody}}", 11, "refers to 'Nobody', which is neither a parameter nor"),
        ("Environment: {Variables: {A: !Ref Orders}}", 11, "refers to 'Orders'"),
        ("Environment: {Variables: {A: !GetAtt Nobody.Arn}}", 11, "refers to 'Nobody', which is no resource"),
        (
            "Environment: {Variables: {A: !GetAtt Order.Url}}",
            11,
            "asks for 'Url' of the function Order, which has 'Arn'",
        ),
        ("Environment: {Variables: {A: !ImportValue x}}", 11, "uses Fn::ImportValue, and there is no other stack here"),
        ("Environment: {Variables: {A: !Cidr [x]}}", 11, "uses Fn::Cidr, which is not carried out here"),
        ("Environment: {Variables: {A: !Sub '${Nobody}'}}", 11, "refers to 'Nobody'"),
        ("Environment: {Variables: {A: !Sub [x]}}", 11, "Fn::Sub that is neither a text nor a list"),
        ("Environment: {Variables: {A: !Join [x]}}", 11, "Fn::Join that is not [DELIMITER, [VALUES]]"),
        ("Environment: {Variables: {A: !Select [9, [x]]}}", 11, "Fn::Select of number '9' of 1 values"),
        ("Environment: {Variables: {A: !Split ['', x]}}", 11, "Fn::Split without a delimiter"),
        ("Environment: {Variables: {A: !FindInMap [M, x, y]}}", 11, "looks for 'M' in Mappings"),
        (
            "Environment: {Variables: {A: !If [Nobody, 1, 2]}}",
            11,
            "names the condition 'Nobody'; the template has: none",
        ),
        ("FunctionName: !Sub '${Order}-x'", 5, "Resources.Order has a name that refers to itself"),
        ("LoggingConfig: {LogFormat: XML}", 11, "LogFormat must be Text or JSON, not 'XML'"),
    ],
)
def test_an_error_names_line_resource_property_and_what_would_be_right(
    folder: Path, properties: str, line: int, said: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        one(folder, properties)
    assert said in caught.value.message
    assert caught.value.line == line
    assert caught.value.message.startswith(f"template.yaml, line {line}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Resource: {}", "a template has no section 'Resource'"),
        ("Resources: {}", "the template has no Resources"),
        ("Resources: []", "Resources must be a mapping"),
        ("Resources: {A: {}}", "Resources.A has no Type"),
        ("Resources: {A: {Type: AWS::Serverless::Function}}", "Resources.A.Properties has no Runtime"),
        (
            "Resources: {A: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.13, CodeUri: none}}}",
            "Resources.A.Properties.CodeUri names 'none', and there is no such folder",
        ),
        (
            "Resources: {A: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.13}}}",
            "Resources.A.Properties has no Handler",
        ),
        ("Parameters: {P: {Type: String}}\nResources: {A: {Type: x}}", "Parameters.P has no Default and was given no"),
        ("Parameters: {P: {Type: String, Default: [1]}}\nResources: {A: {Type: x}}", "P.Default must be a text"),
        ("Conditions: {C: !Condition C}\nResources: {A: {Type: x, Condition: C}}", "which depends on itself"),
        ("Conditions: {C: yes}\nResources: {A: {Type: x, Condition: C}}", "Conditions.C is no condition"),
        ("Conditions: {C: !Equals [1]}\nResources: {A: {Type: x, Condition: C}}", "does not compare two values"),
    ],
)
def test_a_template_that_can_not_be_is_refused(folder: Path, text: str, said: str) -> None:
    assert said in refused(folder, text).message


def test_two_functions_of_one_name_are_refused(folder: Path) -> None:
    function = "{Type: AWS::Serverless::Function, Properties: {FunctionName: x, Handler: a.b, Runtime: python3.13}}"
    error = refused(folder, f"Resources:\n  A: {function}\n  B: {function}")
    assert "Resources.B.Properties is called 'x', as A is" in error.message


def test_an_override_must_be_of_a_parameter_and_allowed(folder: Path) -> None:
    text = "Parameters: {Stage: {Type: String, Default: dev, AllowedValues: [dev, prod]}}\nResources: {A: {Type: x}}"
    assert "Parameters has no 'Stag'; it has: Stage" in refused(folder, text, Stag="dev").message
    assert "Parameters.Stage must be one of dev, prod, not 'test'" in refused(folder, text, Stage="test").message
    assert "at most 4096 characters, not 5000" in refused(folder, text, Stage="x" * 5000).message


def test_a_hint_names_what_is_spelled_nearly_so(folder: Path) -> None:
    with pytest.raises(TemplateError) as caught:
        variable(folder, "!Ref Stag", PARAMETERS)
    assert caught.value.hint == "did you mean 'Stage'?"


def test_what_one_template_makes_is_bounded(folder: Path) -> None:
    big = "x" * 4000
    subs = ", ".join(f"V{n}: !Sub '" + "${P}" * 100 + "'" for n in range(100))
    more = f"Parameters: {{P: {{Type: String, Default: {big}}}}}"
    with pytest.raises(TemplateError, match="makes more than 16777216 characters"):
        one(folder, f"Environment: {{Variables: {{{subs}}}}}", more)


def test_a_chain_of_names_that_is_too_long_is_refused(folder: Path) -> None:
    chain = "\n".join(
        f"          F{n}: {{Type: AWS::Serverless::Function, Properties: {{FunctionName: !Sub '${{F{n + 1}}}'}}}}"
        for n in range(2000)
    )
    assert (
        "refer to each other too deeply"
        in refused(folder, f"        Resources:\n{chain}\n          F2000: {{Type: x}}").message
    )


def test_a_file_that_is_none_is_an_error_and_no_traceback(folder: Path) -> None:
    with pytest.raises(TemplateError, match="it can't be read: No such file"):
        read_template(folder / "none.yaml")
    with pytest.raises(TemplateError, match="it can't be read: Is a directory"):
        read_template(folder)
    (folder / "binary.yaml").write_bytes(b"a: 1\nb: \xff\xfe")
    with pytest.raises(TemplateError, match=r"binary.yaml, line 2: this is no UTF-8 text"):
        read_template(folder / "binary.yaml")


VALUES = st.recursive(
    st.sampled_from(["Order", "Stage", "x", "", 7, None, "AWS::NoValue", "${Stage}", "IsProd", "."]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Ref", "Fn::Sub", "Fn::Join", "Fn::If", "Fn::Select", "Fn::GetAtt", "Fn::Split", "Condition"]
            )
            | st.sampled_from(
                ["Fn::Equals", "Fn::Not", "Fn::FindInMap", "Fn::Base64", "Variables", "Handler", "Timeout"]
            ),
            inner,
            max_size=2,
        )
    ),
    max_leaves=12,
)


PROPERTIES = [
    *("Handler", "Runtime", "Environment", "Timeout", "DurableConfig", "FunctionName", "Tags", "Role", "Code"),
    *("CodeUri", "InlineCode", "AutoPublishAlias", "LoggingConfig", "FunctionVersion", "Name", "RoutingConfig"),
]


@settings(max_examples=300)
@given(
    properties=st.dictionaries(
        st.sampled_from(PROPERTIES),
        VALUES,
        max_size=6,
    ),
    kind=st.sampled_from(
        ["AWS::Serverless::Function", "AWS::Lambda::Function", "AWS::Lambda::Alias", "AWS::Lambda::Version"]
    ),
)
def test_whatever_stands_in_a_template_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, properties: dict[str, object], kind: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    document = {
        "Parameters": {"Stage": {"Type": "String", "Default": "dev"}},
        "Conditions": {"IsProd": {"Fn::Equals": [{"Ref": "Stage"}, "prod"]}},
        "Globals": {"Function": {"Runtime": "python3.13", "Handler": "app.handler"}},
        "Resources": {"Order": {"Type": kind, "Properties": properties}},
    }
    path.write_text(json.dumps(document))
    with contextlib.suppress(TemplateError):
        read_template(path)
