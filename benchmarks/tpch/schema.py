"""TPC-H's eight tables with their primary keys and an index on each foreign key that no primary key covers."""

from __future__ import annotations

from benchmarks.schema import Column, Table


def _table(name: str, columns: str, primary_key: str, *indexes: str) -> Table:
    """Builds a table from `name type` pairs, separated by semicolons, and comma-separated keys."""
    pairs = [part.split(maxsplit=1) for part in columns.split(";")]
    return Table(
        name,
        tuple(Column(column, kind.strip()) for column, kind in pairs),
        tuple(primary_key.split(",")),
        tuple(tuple(index.split(",")) for index in indexes),
    )


REGION = _table("region", "r_regionkey bigint; r_name char(25); r_comment varchar(152)", "r_regionkey")
NATION = _table(
    "nation",
    "n_nationkey bigint; n_name char(25); n_regionkey bigint; n_comment varchar(152)",
    "n_nationkey",
    "n_regionkey",
)
SUPPLIER = _table(
    "supplier",
    "s_suppkey bigint; s_name char(25); s_address varchar(40); s_nationkey bigint; s_phone char(15); "
    "s_acctbal decimal(15,2); s_comment varchar(101)",
    "s_suppkey",
    "s_nationkey",
)
CUSTOMER = _table(
    "customer",
    "c_custkey bigint; c_name varchar(25); c_address varchar(40); c_nationkey bigint; c_phone char(15); "
    "c_acctbal decimal(15,2); c_mktsegment char(10); c_comment varchar(117)",
    "c_custkey",
    "c_nationkey",
)
PART = _table(
    "part",
    "p_partkey bigint; p_name varchar(55); p_mfgr char(25); p_brand char(10); p_type varchar(25); p_size int; "
    "p_container char(10); p_retailprice decimal(15,2); p_comment varchar(23)",
    "p_partkey",
)
PARTSUPP = _table(
    "partsupp",
    "ps_partkey bigint; ps_suppkey bigint; ps_availqty int; ps_supplycost decimal(15,2); ps_comment varchar(199)",
    "ps_partkey,ps_suppkey",
    "ps_suppkey",
)
ORDERS = _table(
    "orders",
    "o_orderkey bigint; o_custkey bigint; o_orderstatus char(1); o_totalprice decimal(15,2); o_orderdate date; "
    "o_orderpriority char(15); o_clerk char(15); o_shippriority int; o_comment varchar(79)",
    "o_orderkey",
    "o_custkey",
)
LINEITEM = _table(
    "lineitem",
    "l_orderkey bigint; l_partkey bigint; l_suppkey bigint; l_linenumber int; l_quantity decimal(15,2); "
    "l_extendedprice decimal(15,2); l_discount decimal(15,2); l_tax decimal(15,2); l_returnflag char(1); "
    "l_linestatus char(1); l_shipdate date; l_commitdate date; l_receiptdate date; l_shipinstruct char(25); "
    "l_shipmode char(10); l_comment varchar(44)",
    "l_orderkey,l_linenumber",
    "l_partkey,l_suppkey",
    "l_suppkey",
)

TABLES = (REGION, NATION, SUPPLIER, CUSTOMER, PART, PARTSUPP, ORDERS, LINEITEM)
